"""Reports: their way to the reader, limits, and counts of those that are lost."""

import select
import time
from collections.abc import Iterator

import pytest

from cilia.abi.enums import EventKind, Hook, Outcome
from cilia.datapath.clock import TICKS_PER_SECOND
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, node, populate, reset

RECORD_BYTES = 88
WAKE_BYTES = 1 << 16


def test_a_reader_is_not_woken_for_a_few_reports_but_finds_them(here: Node) -> None:
    with select.epoll() as epoll:
        epoll.register(here.ring.fileno(), select.EPOLLIN)
        here.run("from_pod", tcp(A, B), "lxc1", repeat=10)
        assert epoll.poll(0.05) == []
    assert len(here.events()) == 10


def test_a_reader_is_woken_once_many_reports_wait(here: Node) -> None:
    with select.epoll() as epoll:
        epoll.register(here.ring.fileno(), select.EPOLLIN)
        here.run("from_pod", tcp(A, B), "lxc1", repeat=WAKE_BYTES // RECORD_BYTES + 2)
        assert epoll.poll(1)


def test_reports_that_find_no_room_are_counted_and_the_packet_fares_as_before(here: Node) -> None:
    before = here.counted(Outcome.LOST_EVENT, Hook.FROM_POD)
    ran = here.run("from_pod", tcp(A, B), "lxc1", repeat=60_000)
    assert ran.retval == TC_ACT_SHOT
    assert here.counted(Outcome.LOST_EVENT, Hook.FROM_POD) > before


LIMIT = 100


@pytest.fixture(scope="module")
def talkative() -> Iterator[Node]:
    with node(variables={"trace_ticks": TICKS_PER_SECOND // 4}) as made:
        yield made


@pytest.fixture
def traced(talkative: Node) -> Node:
    reset(talkative)
    populate(talkative)
    talkative.allow(A, EGRESS)
    talkative.allow(B, INGRESS)
    return talkative


def test_the_beginning_and_the_end_of_a_connection_are_traced_once_each_way(traced: Node) -> None:
    there, back = [tcp(A, B, flags=flags) for flags in "SAAFA"], [tcp(B, A, 80, 40000, flags) for flags in ("SA", "FA")]
    conversation = [("lxc1", there[0]), ("lxc2", back[0]), *(("lxc1", each) for each in there[1:]), ("lxc2", back[1])]
    for device, frame in conversation:
        traced.run("from_pod", frame, device)
    kinds = [(event.kind, event.tcp_flags, event.is_reply) for event in traced.events()]
    assert kinds == [
        (EventKind.VERDICT, 0x02, 0),
        (EventKind.TRACE, 0x12, 1),
        (EventKind.TRACE, 0x01, 0),
        (EventKind.TRACE, 0x11, 1),
    ]


def test_a_reset_is_traced_with_the_identities_of_its_flow(traced: Node) -> None:
    traced.run("from_pod", tcp(A, B), "lxc1")
    traced.run("from_pod", tcp(B, A, 80, 40000, "R"), "lxc2")
    event = traced.events()[-1]
    assert (event.kind, event.identity, event.is_reply) == (EventKind.TRACE, (B.identity, A.identity), 1)


def test_a_flow_that_goes_on_is_traced_now_and_then(traced: Node) -> None:
    traced.run("from_pod", tcp(A, B), "lxc1")
    traced.run("from_pod", tcp(A, B), "lxc1", repeat=100)
    assert len(traced.events()) == 1
    time.sleep(0.3)
    traced.run("from_pod", tcp(A, B), "lxc1", repeat=100)
    assert [event.kind for event in traced.events()] == [EventKind.TRACE]


def test_reports_above_the_limit_are_counted_and_the_packet_fares_as_before() -> None:
    costs = {"event_cost_ns": 1_000_000_000 // LIMIT, "event_burst_ns": 100_000_000}
    with node(variables=costs) as quiet:
        populate(quiet)
        before = quiet.counted(Outcome.LIMITED_EVENT, Hook.FROM_POD)
        assert quiet.run("from_pod", tcp(A, B), "lxc1", repeat=1000).retval == TC_ACT_SHOT
        reported = len(quiet.events())
        assert LIMIT // 10 <= reported <= LIMIT // 10 + LIMIT
        assert quiet.counted(Outcome.LIMITED_EVENT, Hook.FROM_POD) - before == 1000 - reported
        quiet.allow(A, EGRESS)
        quiet.allow(B, INGRESS)
        assert quiet.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
