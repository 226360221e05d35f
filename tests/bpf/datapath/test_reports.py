"""Reports: their way to the reader, limits, and counts of those that are lost."""

import select
import time
from collections.abc import Iterator

import pytest

from cilia.abi import maps
from cilia.abi.enums import EventKind, Hook, Outcome
from cilia.abi.structs import Event, EventBudget
from cilia.datapath.clock import TICKS_PER_SECOND, CoarseClock
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import (
    EGRESS,
    INGRESS,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    A,
    B,
    Node,
    W,
    mapped,
    node,
    populate,
    reset,
)

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


LIMIT = 50
BURST = 200


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


@pytest.fixture(scope="module")
def limited() -> Iterator[Node]:
    budget = {"event_rate": LIMIT, "event_burst": BURST, "node_event_rate": LIMIT, "node_event_burst": BURST}
    with node(variables={**budget, "ticks_per_second": TICKS_PER_SECOND}) as made:
        yield made


@pytest.fixture
def quiet(limited: Node) -> Node:
    """Everybody, and the node, has his whole budget again."""
    reset(limited)
    populate(limited)
    whole = EventBudget(CoarseClock(limited.objects.program("read_clock")).now(), BURST * TICKS_PER_SECOND)
    with limited.objects.map(maps.EVENT_BUDGETS) as budgets:
        budgets.update_many([(index, whole) for index in range(budgets.layout.max_entries)])
    return limited


def drain(node: Node) -> list[Event]:
    """Take all that was reported."""
    found: list[Event] = []
    while some := node.events():
        found += some
    return found


def flood(node: Node, program: str, frame: bytes, device: str) -> int:
    """Have more packets dropped than may be reported; return how many reports came."""
    assert node.run(program, frame, device, repeat=20 * BURST).retval == TC_ACT_SHOT
    return len(drain(node))


def test_reports_above_the_limit_are_counted_and_the_packet_fares_as_before(quiet: Node) -> None:
    before = quiet.counted(Outcome.LIMITED_EVENT, Hook.FROM_POD)
    reported = flood(quiet, "from_pod", tcp(A, B), "lxc1")
    assert BURST // 2 <= reported < 20 * BURST
    assert quiet.counted(Outcome.LIMITED_EVENT, Hook.FROM_POD) - before == 20 * BURST - reported
    quiet.allow(A, EGRESS)
    quiet.allow(B, INGRESS)
    assert quiet.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT


def test_a_flood_of_one_pod_hides_no_drop_of_another(quiet: Node) -> None:
    flood(quiet, "from_pod", tcp(A, B), "lxc1")
    quiet.run("from_pod", tcp(B, A), "lxc2")
    assert [event.source for event in drain(quiet)] == [mapped(B.address)]


def test_a_flood_of_frames_that_are_no_packets_hides_no_such_frame_of_another(quiet: Node) -> None:
    flood(quiet, "from_pod", bytes(60), "lxc1")
    quiet.run("from_pod", bytes(60), "lxc2")
    assert [event.ifindex for event in drain(quiet)] == [quiet.devices["lxc2"]]


@pytest.mark.parametrize(("program", "device"), [("from_uplink", "uplink"), ("to_pod", "lxc1")])
def test_a_flood_of_the_world_towards_one_pod_hides_nothing_of_another(quiet: Node, program: str, device: str) -> None:
    flood(quiet, program, tcp(W, A), device)
    quiet.run(program, tcp(W, B), device.replace("1", "2"))
    assert [event.destination for event in drain(quiet)] == [mapped(B.address)]


def test_a_flood_towards_a_pod_hides_nothing_of_what_it_sends(quiet: Node) -> None:
    flood(quiet, "from_uplink", tcp(W, A), "uplink")
    quiet.run("from_pod", tcp(A, W), "lxc1")
    assert [event.source for event in drain(quiet)] == [mapped(A.address)]


def test_the_budget_comes_back_with_time(quiet: Node) -> None:
    flood(quiet, "from_pod", tcp(A, B), "lxc1")
    time.sleep(3 / LIMIT)
    quiet.run("from_pod", tcp(A, B), "lxc1")
    assert len(drain(quiet)) == 1


def test_pods_that_spent_half_of_theirs_share_the_nodes_and_one_that_did_not_is_heard(quiet: Node) -> None:
    both = [flood(quiet, "from_pod", tcp(*ends), device) for ends, device in (((A, B), "lxc1"), ((B, A), "lxc2"))]
    assert sum(both) < 2 * BURST
    quiet.run("from_uplink", tcp(W, A), "uplink")
    assert len(drain(quiet)) == 1
