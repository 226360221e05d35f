"""Every message of every service travels as JSON as the contracts promise."""

from enum import StrEnum
from typing import Any, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from cilia.contracts.ipam import Granted
from cilia.contracts.messages import Problem, ProblemCode, Reply
from tests.unit.contracts.drawing import MESSAGES, enum_in, fields_where, is_required, sample_of, structs_of

every_message = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
CHOICES = [
    (kind, name, choice)
    for kind in MESSAGES
    for name, hint in get_type_hints(kind).items()
    if (choice := enum_in(hint)) is not None
]
every_choice = pytest.mark.parametrize(
    ("kind", "name", "choice"), CHOICES, ids=[f"{kind.__name__}.{name}" for kind, name, _ in CHOICES]
)


def fields_of(message: Struct) -> dict[str, Any]:
    """Return a message's JSON object with all of its fields, those with defaults included."""
    named = {name: getattr(message, name) for name in message.__struct_fields__}
    return dict(msgspec.json.decode(msgspec.json.encode(named)))


def decode(kind: type[Struct], body: object) -> Struct:
    return msgspec.json.decode(msgspec.json.encode(body), type=kind)


def test_every_service_has_its_messages() -> None:
    assert len(MESSAGES) > 60
    assert {kind.__module__.rpartition(".")[2] for kind in MESSAGES} >= {
        "agent",
        "drift",
        "explanations",
        "flow_events",
        "flows",
        "history",
        "identity_service",
        "ipam",
        "policies",
        "realisation",
    }


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(message=st.one_of(*map(structs_of, MESSAGES)))
def test_what_is_sent_is_what_arrives(message: Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message


@every_message
def test_a_sample_of_each_arrives_as_it_was_sent(kind: type[Struct]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(sample_of(kind)), type=kind) == sample_of(kind)


@every_message
def test_fields_that_a_reader_does_not_know_are_ignored(kind: type[Struct]) -> None:
    message = sample_of(kind)
    assert decode(kind, {**fields_of(message), "added_in_a_later_version": [1, {"a": None}]}) == message


@every_message
def test_fields_that_a_writer_does_not_know_take_their_default(kind: type[Struct]) -> None:
    message = sample_of(kind)
    required = set(fields_where(kind, is_required))
    body = {name: value for name, value in fields_of(message).items() if name in required}
    found = decode(kind, body)
    for field in fields(kind):
        if field.name in required:
            assert getattr(found, field.name) == getattr(message, field.name)
        elif field.default is not msgspec.NODEFAULT:
            assert getattr(found, field.name) == field.default
        else:
            assert getattr(found, field.name) == field.default_factory()


@every_message
def test_a_required_field_that_is_missing_is_named(kind: type[Struct]) -> None:
    body = fields_of(sample_of(kind))
    for name in fields_where(kind, is_required):
        with pytest.raises(msgspec.ValidationError, match=f"missing required field `{name}`"):
            decode(kind, {key: value for key, value in body.items() if key != name})


@every_message
def test_a_value_of_another_type_is_refused_by_its_field(kind: type[Struct]) -> None:
    body = fields_of(sample_of(kind))
    for name in kind.__struct_fields__:
        if name == "arguments":  # a Call's are decoded by whoever serves it
            continue
        with pytest.raises(msgspec.ValidationError, match=rf"at `\$\.{name}"):
            decode(kind, {**body, name: [[[None]]]})


@every_message
def test_a_message_never_changes_once_it_is_made(kind: type[Struct]) -> None:
    message = sample_of(kind)
    for name in kind.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(message, name, None)


def test_choices_are_found_where_the_contracts_have_them() -> None:
    assert {f"{kind.__name__}.{name}" for kind, name, _ in CHOICES} >= {
        "Problem.code",
        "Flow.kind",
        "Flow.verdict",
        "Flow.direction",
        "AgentStatus.state",
        "LocalEndpoint.state",
        "PolicyChange.action",
        "Side.direction",
        "Side.because",
        "Mismatch.criterion",
        "Mismatch.kind",
        "DistinctFlow.verdict",
        "RecordedFlow.verdict",
        "ListFlows.verdict",
    }


@every_choice
def test_a_choice_that_a_reader_does_not_know_is_refused_by_value_and_field(
    kind: type[Struct], name: str, choice: type[StrEnum]
) -> None:
    is_many = get_origin(get_type_hints(kind)[name]) is tuple
    body = {**fields_of(sample_of(kind)), name: ["perhaps"] if is_many else "perhaps"}
    with pytest.raises(msgspec.ValidationError, match=rf"Invalid enum value 'perhaps' - at `\$\.{name}"):
        decode(kind, body)


@every_choice
def test_a_choice_travels_as_its_text(kind: type[Struct], name: str, choice: type[StrEnum]) -> None:
    body = fields_of(sample_of(kind))
    is_many = get_origin(get_type_hints(kind)[name]) is tuple
    for each in choice:
        assert each.value == each.value.lower()
        found = getattr(decode(kind, {**body, name: [each.value] if is_many else each.value}), name)
        assert (found[0] if is_many else found) is each


def test_an_answer_is_either_a_result_or_a_problem_and_says_no_more() -> None:
    assert msgspec.json.encode(Reply(ok=Granted("10.0.0.0/26", revision=7))) == (  # type: ignore[arg-type]
        b'{"ok":{"cidr":"10.0.0.0/26","revision":7}}'
    )
    refused = msgspec.json.encode(Reply(problem=Problem(ProblemCode.NOT_FOUND, "no such lease", "lease", "7")))
    assert refused == b'{"problem":{"code":"not_found","message":"no such lease","field":"lease","value":"7"}}'
    answer = msgspec.json.decode(refused, type=Reply[Granted])
    assert answer.ok is None
    assert answer.problem == Problem(ProblemCode.NOT_FOUND, "no such lease", "lease", "7")


@pytest.mark.parametrize("code", ProblemCode)
def test_a_reason_to_refuse_reads_as_its_wire_text(code: ProblemCode) -> None:
    assert f"{code}: because" == f"{code.value}: because"
    assert msgspec.json.encode(Problem(code, "m")).startswith(b'{"code":"%s"' % code.value.encode())


def test_an_answer_of_the_wrong_type_is_refused_with_its_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"at `\$\.ok\.revision`"):
        msgspec.json.decode(b'{"ok":{"cidr":"10.0.0.0/26","revision":"seven"}}', type=Reply[Granted])
    with pytest.raises(msgspec.ValidationError, match=r"Invalid enum value 'odd' - at `\$\.problem\.code`"):
        msgspec.json.decode(b'{"problem":{"code":"odd","message":""}}', type=Reply[Granted])
