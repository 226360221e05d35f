"""The object of the enforcement mode, the annotation that audits a policy, and what becomes of
audited denials.
"""

import pytest

from cilia.policy.engine.events import ModeSet
from cilia.policy.engine.mapstate import Match, intersect
from cilia.policy.engine.options import Mode
from cilia.policy.engine.verdict import decide
from cilia.policy.errors import BadPolicy
from cilia.policy.language.enforcement import Enforcement
from cilia.policy.language.parse import parse_policies
from tests.unit.policy.engine.test_engine import DB, HOST, TCP, WEB, engine_with, policy

OBJECT = "{apiVersion: cilia.io/v1, kind: CiliaEnforcement, metadata: {name: %s}, spec: %s}"
AUDITED = "{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: p, annotations: {}}}, spec: {}}}"
ISOLATED = "{endpointSelector: {}, ingress: [{}]}"


def test_what_the_object_leaves_out_is_the_default() -> None:
    (parsed,) = parse_policies(OBJECT % ("cluster", "{mode: always}"))
    assert parsed.enforcement == Enforcement(Mode.ALWAYS, audit=False)
    assert (parsed.key, parsed.policy.specs) == ("CiliaEnforcement//cluster", ())
    assert parse_policies(Enforcement(Mode.NEVER, audit=True).document)[0].enforcement == Enforcement(Mode.NEVER, True)


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (OBJECT % ("cluster", "{mode: on}"), "spec.mode", "must be a string"),
        (OBJECT % ("cluster", "{mode: off-and-on}"), "spec.mode", "must be one of default, always, never"),
        (OBJECT % ("cluster", "{audit: maybe}"), "spec.audit", "must be true or false"),
        (OBJECT % ("cluster", "{enforce: true}"), "spec.enforce", "unknown field"),
        (OBJECT % ("other", "{mode: always}"), "metadata.name", "must be cluster"),
        (
            AUDITED.format("{cilia.io/audit: perhaps}", ISOLATED),
            "metadata.annotations[cilia.io/audit]",
            "must be one of",
        ),
    ],
)
def test_mistakes_are_refused_by_field(text: str, path: str, reason: str) -> None:
    with pytest.raises(BadPolicy) as refused:
        parse_policies(text)
    assert (refused.value.path, reason in str(refused.value)) == (path, True)


def test_an_annotation_audits_all_specs_of_a_policy() -> None:
    (parsed,) = parse_policies(AUDITED.format("{cilia.io/audit: 'true'}", ISOLATED))
    assert [spec.audit for spec in parsed.policy.specs] == [True]
    (parsed,) = parse_policies(AUDITED.format("{cilia.io/audit: 'false'}", ISOLATED))
    assert [spec.audit for spec in parsed.policy.specs] == [False]


def test_an_audited_denial_lifts_no_denial_of_another_policy() -> None:
    isolates = policy("endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]", name="q")
    (parsed,) = parse_policies(
        AUDITED.format("{cilia.io/audit: 'true'}", "{endpointSelector: {}, ingressDeny: [{fromEntities: [all]}]}"),
        namespace="x",
    )
    engine = engine_with(isolates, type(isolates)(parsed.policy))
    state = engine.map_state(WEB)
    from_db = decide(state, DB, egress=False, protocol=TCP, port=80)
    assert (from_db.allowed, from_db.audited) == (True, True)
    assert not decide(state, WEB, egress=False, protocol=TCP, port=80).allowed
    from_host = decide(state, HOST, egress=False, protocol=TCP, port=80)
    assert (from_host.allowed, from_host.audited) == (True, True)


def test_an_audited_denial_lifts_no_isolation_in_both_directions() -> None:
    isolates = policy("endpointSelector: {}, ingress: [{}], egress: [{}]", name="q")
    (parsed,) = parse_policies(
        AUDITED.format(
            "{cilia.io/audit: 'true'}",
            "{endpointSelector: {}, ingressDeny: [{fromEndpoints: [{matchLabels: {app: db}}]}]}",
        ),
        namespace="x",
    )
    engine = engine_with(isolates, type(isolates)(parsed.policy))
    assert not decide(engine.map_state(WEB), DB, egress=False, protocol=TCP, port=80).allowed


def test_an_audited_cluster_denies_nobody_and_says_whom_it_would() -> None:
    engine = engine_with(
        policy("endpointSelector: {matchLabels: {app: web}}, ingress: [{}]"), ModeSet(Mode.DEFAULT, True)
    )
    verdict = decide(engine.map_state(WEB), DB, egress=False, protocol=TCP, port=80)
    assert (verdict.allowed, verdict.audited) == (True, True)
    verdict = decide(engine.map_state(WEB), DB, egress=True, protocol=TCP, port=80)
    assert (verdict.allowed, verdict.audited) == (True, False)


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (Match(True, 0, 0, 0), Match(True, 6, 80, 16), Match(True, 6, 80, 16)),
        (Match(True, 6, 0, 0), Match(True, 6, 80, 16), Match(True, 6, 80, 16)),
        (Match(True, 6, 64, 10), Match(True, 6, 80, 16), Match(True, 6, 80, 16)),
        (Match(True, 6, 128, 10), Match(True, 6, 80, 16), None),
        (Match(True, 17, 0, 0), Match(True, 6, 80, 16), None),
        (Match(False, 0, 0, 0), Match(True, 0, 0, 0), None),
        (Match(True, 6, 80, 16), Match(True, 6, 80, 16), Match(True, 6, 80, 16)),
    ],
)
def test_what_two_matches_have_in_common(one: Match, other: Match, common: Match | None) -> None:
    assert intersect(one, other) == intersect(other, one) == common
