"""Distinct flows: what counts as one, what the recorder is told of it and when, and what makes
room.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi.enums import DropReason, EventKind
from cilia.abi.structs import Event
from cilia.contracts.flows import DistinctFlow, FlowPeer
from cilia.contracts.ids import NodeName
from cilia.datapath.clock import UnixClock
from services.agent.flows.aggregation import DistinctFlows, workload_name
from services.agent.flows.naming import flow_of
from tests.unit.agent.flows.test_naming import NAMES, event

PORTS = (("http", "TCP", 80),)
WORLD = 2


def take(flows: DistinctFlows, which: Event) -> None:
    flows.add(which, flow_of(which, NodeName("node1"), UnixClock(1000), NAMES))


def distinct(limit: int = 100) -> DistinctFlows:
    return DistinctFlows(limit, lambda endpoint, address: PORTS if not endpoint else ())


def told(flows: DistinctFlows, *, everything: bool = True) -> tuple[DistinctFlow, ...]:
    return flows.take_unreported(500, everything=everything)[0]


def test_the_same_flow_counts_up_whatever_its_source_port_and_another_port_is_another_flow() -> None:
    flows = distinct()
    for source_port in (40000, 40001, 40002):
        take(flows, event()._replace(port=(source_port, 80), time_ns=source_port))
    take(flows, event()._replace(port=(40000, 81)))
    first, other = told(flows)
    assert (first.count, first.first_ns, first.last_ns) == (3, 41000, 41002)
    assert (first.source, first.destination) == (FlowPeer(300, "default/pod7"), FlowPeer(301, "default/remote"))
    assert (first.protocol, first.port, first.verdict, first.egress, first.ports) == (6, 80, "allowed", False, PORTS)
    assert (other.port, other.count) == (81, 1)


def test_an_answer_that_is_decided_anew_belongs_to_the_flow_of_its_question() -> None:
    flows = distinct()
    take(flows, event())
    asked, answered = event(), event()._replace(is_reply=1)
    back = answered._replace(
        identity=asked.identity[::-1],
        endpoint=asked.endpoint[::-1],
        port=(80, 40000),
        source=asked.destination,
        destination=asked.source,
    )
    take(flows, back)
    (only,) = told(flows)
    assert only.count == 2


@pytest.mark.parametrize(("protocol", "question", "answer"), [(1, 8, 0), (58, 128, 129)])
def test_an_answer_to_a_ping_counts_as_the_ping(protocol: int, question: int, answer: int) -> None:
    flows = distinct()
    take(flows, event()._replace(protocol=protocol, port=(0, answer), is_reply=1))
    assert told(flows)[0].port == question


@pytest.mark.parametrize(
    ("kind", "reason", "verdict"),
    [
        (EventKind.DROP, DropReason.POLICY_DENIED, "denied"),
        (EventKind.DROP, DropReason.DENIED_BY_RULE, "denied"),
        (EventKind.DROP, DropReason.POLICY_NOT_READY, None),
        (EventKind.DROP, DropReason.INVALID_SOURCE, None),
        (EventKind.TRACE, 0, None),
    ],
)
def test_only_verdicts_of_policy_are_flows(kind: EventKind, reason: int, verdict: str | None) -> None:
    flows = distinct()
    take(flows, event()._replace(kind=kind, reason=reason))
    assert [flow.verdict for flow in told(flows)] == [verdict] * (verdict is not None)


def test_what_was_audited_is_kept_apart_from_what_was_allowed() -> None:
    flows = distinct()
    take(flows, event())
    take(flows, event(audited=1))
    assert {flow.verdict for flow in told(flows)} == {"allowed", "audited"}


def test_outsiders_are_addresses_and_entities_are_not() -> None:
    flows = distinct()
    for identity in (WORLD, 1 << 24 | 5, 1):
        take(flows, event()._replace(identity=(identity, 301), endpoint=(0, 0)))
    assert [flow.source for flow in told(flows)] == [
        FlowPeer(1),
        FlowPeer(WORLD, "", "10.1.0.5"),
        FlowPeer(1 << 24 | 5, "", "10.1.0.5"),
    ]


def test_new_flows_are_told_at_once_and_others_when_everything_is() -> None:
    flows = distinct()
    take(flows, event())
    assert flows.has_fresh
    assert len(told(flows, everything=False)) == 1
    take(flows, event())
    assert not flows.has_fresh
    assert told(flows, everything=False) == ()
    assert [flow.count for flow in told(flows)] == [1]
    assert told(flows) == ()


def test_a_batch_holds_so_many_and_the_next_one_the_rest() -> None:
    flows = distinct()
    for port in range(1, 11):
        take(flows, event()._replace(port=(1, port)))
    first, _ = flows.take_unreported(6, everything=False)
    second, _ = flows.take_unreported(6, everything=False)
    assert sorted(flow.port for flow in (*first, *second)) == list(range(1, 11))
    assert not flows.has_fresh


def test_a_scan_from_outside_makes_room_for_itself_and_what_was_lost_is_told() -> None:
    flows = distinct(limit=10)
    for port in range(1, 9):
        take(flows, event()._replace(port=(1, port)))
    for port in range(1000, 1100):
        take(flows, event()._replace(port=(1, port), identity=(WORLD, 301)))
    assert len(flows) == 10
    seen, lost = flows.take_unreported(500, everything=True)
    assert [flow.port for flow in seen] == [*range(1, 9), 1098, 1099]
    assert (lost, flows.counters.lost, flows.counters.evicted) == (98, 98, 98)
    assert flows.take_unreported(500, everything=True) == ((), 0)
    assert not flows.has_fresh


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("shop/web-5d4f7b9c6d-x2xk7", "shop/web"),
        ("shop/db-0", "shop/db"),
        ("kube-system/kube-proxy-4zqtv", "kube-system/kube-proxy"),
        ("shop/web", "shop/web"),
        ("shop/store-front", "shop/store-front"),
        ("", ""),
    ],
)
def test_a_workload_is_named_without_the_endings_of_its_copies(pod: str, workload: str) -> None:
    assert workload_name(pod) == workload


@given(
    st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), max_size=80),
    st.integers(2, 8),
)
def test_every_verdict_is_reported_once_or_counted_as_lost(steps: list[tuple[int, bool, bool]], limit: int) -> None:
    flows = distinct(limit)
    seen = reported = lost_flows = 0
    for port, is_outside, reports in steps:
        which = event()._replace(port=(1, port), identity=(WORLD if is_outside else 300, 301))
        take(flows, which)
        seen += 1
        assert len(flows) <= limit
        if reports:
            batch, lost = flows.take_unreported(500, everything=True)
            reported += sum(flow.count for flow in batch)
            lost_flows += lost
    batch, lost = flows.take_unreported(500, everything=True)
    reported += sum(flow.count for flow in batch)
    assert reported <= seen
    assert (reported == seen) == (lost_flows + lost == 0)
    assert flows.counters.lost == lost_flows + lost
    assert not flows.has_fresh
