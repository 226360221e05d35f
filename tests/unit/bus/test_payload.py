"""Messages of the bus as bytes: their size, and replies decoded."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.bus.config import BusConfig, authentication
from cilia.bus.connection import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, next_server
from cilia.bus.payload import read_reply, require_fit, with_trace
from cilia.contracts.ids import Revision
from cilia.contracts.messages import Empty, Problem, ProblemCode, Reply, Revised
from cilia.errors import Refused, TooLarge, Unavailable


@given(st.integers(0, 300), st.dictionaries(st.text("abc", min_size=1), st.text("xyz"), max_size=4))
def test_a_message_fits_exactly_when_its_bytes_and_headers_as_the_server_counts_them_do(
    size: int, headers: dict[str, str]
) -> None:
    on_the_wire = b"NATS/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers.items()) + b"\r\n"
    counted = size + (len(on_the_wire) if headers else 0)
    require_fit("it", bytes(size), headers, counted)
    with pytest.raises(TooLarge, match=f"it has {counted:,} bytes; the bus takes at most {counted - 1:,}"):
        require_fit("it", bytes(size), headers, counted - 1)


def test_without_a_trace_headers_stay_as_they_are() -> None:
    assert with_trace(None) is None
    assert with_trace({}) is None
    assert with_trace({"a": "b"}) == {"a": "b"}


def test_a_reply_is_its_content() -> None:
    payload = msgspec.json.encode(Reply(ok=Revised(Revision(7))))
    assert read_reply(payload, Revised, service="identity", call="release") == Revised(Revision(7))


def test_a_problem_is_raised_as_it_was_told() -> None:
    problem = Problem(ProblemCode.BUSY, "try again")
    with pytest.raises(Refused) as caught:
        read_reply(msgspec.json.encode(Reply[Empty](problem=problem)), Empty, service="ipam", call="grow")
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("payload", "text"),
    [(b"{", "garbled answer to 'grow'"), (b"{}", "empty answer to 'grow'"), (b'{"ok": 7}', "garbled answer")],
)
def test_what_is_no_reply_names_service_and_call(payload: bytes, text: str) -> None:
    with pytest.raises(Unavailable, match=f"ipam is unavailable: {text}"):
        read_reply(payload, Revised, service="ipam", call="grow")


class Known:
    """A server as nats-py keeps it."""

    def __init__(self, name: str, failures: int) -> None:
        self.name = name
        self.reconnects = failures


def test_the_server_that_failed_least_is_tried_next_and_pauses_grow_with_its_failures() -> None:
    servers = [Known("a", 3), Known("b", 1), Known("c", 2)]
    chosen, pause = next_server(servers, None)
    assert chosen.name == "b"
    assert FIRST_PAUSE_SECONDS <= pause <= 2 * FIRST_PAUSE_SECONDS
    _, longest = next_server([Known("a", 10_000)], None)
    assert LONGEST_PAUSE_SECONDS / 2 <= longest <= LONGEST_PAUSE_SECONDS


def test_who_connects_shows_only_what_is_configured() -> None:
    assert authentication(BusConfig()) == {}
    assert authentication(BusConfig(nkey_seed_file="/a", credentials_file="/b")) == {
        "nkeys_seed": "/a",
        "user_credentials": "/b",
    }
