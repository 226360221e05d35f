"""The record: flows add up, are found by page, and make room."""

from cilia.contracts.flows import DistinctFlow, FlowPeer, ListFlows, PolicyVerdict, RecordedFlow
from cilia.contracts.ids import Identity
from services.recorder.flow_table import FlowTable, recorded

LABELS = {
    300: ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"),
    301: ("k8s:app=db", "k8s:io.kubernetes.pod.namespace=shop"),
    400: ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"),
}


def seen(port: int = 80, *, source: FlowPeer | None = None, last_ns: int = 10, **more: object) -> RecordedFlow:
    flow = DistinctFlow(
        source or FlowPeer(300, "shop/web"),
        FlowPeer(301, "shop/db"),
        6,
        port,
        PolicyVerdict.ALLOWED,
        False,
        first_ns=min(5, last_ns),
        last_ns=last_ns,
        **more,  # type: ignore[arg-type]
    )
    found = recorded(flow, lambda identity: LABELS.get(int(identity)))
    assert found is not None
    return found


def table(limit: int = 100) -> FlowTable:
    return FlowTable(limit, since_ns=1)


def test_what_several_nodes_saw_of_a_flow_adds_up_also_under_another_identity_of_the_same_labels() -> None:
    kept = table()
    kept.add(seen(count=2, last_ns=20))
    kept.add(seen(source=FlowPeer(400, "shop/web"), count=3, last_ns=10))
    kept.add(seen(port=81))
    first, other = sorted(kept.page(ListFlows()).flows, key=lambda flow: flow.port)
    assert (first.count, first.first_ns, first.last_ns) == (5, 5, 20)
    assert first.source.labels == LABELS[300]
    assert (first.protocol, other.port) == ("TCP", 81)


def test_an_identity_that_is_not_known_yet_gives_no_flow_and_an_outsider_is_the_world() -> None:
    unknown = DistinctFlow(FlowPeer(999), FlowPeer(301), 6, 80, PolicyVerdict.ALLOWED, False)
    assert recorded(unknown, lambda identity: LABELS.get(int(identity))) is None
    outside = seen(source=FlowPeer(1 << 24 | 7, "", "192.0.2.9"))
    assert (outside.source.labels, outside.source.address) == (("reserved:world",), "192.0.2.9")
    node = seen(source=FlowPeer(6))
    assert node.source.labels == ("reserved:remote-node",)
    assert Identity(node.source.identity) == 6
    labels = ("node:zone=a", "reserved:remote-node")
    labelled = recorded(
        DistinctFlow(FlowPeer(2 << 24 | 1), FlowPeer(301), 6, 80, PolicyVerdict.ALLOWED, False), lambda _: labels
    )
    assert labelled is not None
    assert labelled.source.labels == labels


def test_pages_hold_every_flow_once_also_while_flows_come_in_between() -> None:
    kept = table()
    for port in range(40):
        kept.add(seen(port))
    found, after = [], ""
    for turn in range(100):
        page = kept.page(ListFlows(after=after, limit=7))
        found += [flow.port for flow in page.flows]
        kept.add(seen(1000 + turn))
        after = page.next
        if not after:
            break
    assert sorted(port for port in found if port < 1000) == list(range(40))


def test_a_page_holds_what_is_asked_for() -> None:
    kept = table()
    kept.add(seen(80, last_ns=10))
    kept.add(seen(81, last_ns=20, source=FlowPeer(2, "", "192.0.2.9")))
    assert [flow.port for flow in kept.page(ListFlows(since_ns=15)).flows] == [81]
    assert [flow.port for flow in kept.page(ListFlows(workload="shop/web")).flows] == [80]
    assert len(kept.page(ListFlows(workload="shop/db", namespace="shop")).flows) == 2
    assert kept.page(ListFlows(namespace="lab")).flows == ()
    assert kept.page(ListFlows(verdict=PolicyVerdict.DENIED)).flows == ()


def test_the_oldest_make_room_outsiders_first_and_are_counted() -> None:
    kept = table(limit=100)
    for port in range(60):
        kept.add(seen(port, last_ns=port))
    for port in range(1000, 1100):
        kept.add(seen(port, last_ns=port, source=FlowPeer(2, "", "192.0.2.9")))
    ports = {flow.port for flow in kept.rows.values()}
    assert set(range(60)) <= ports
    assert len(ports) <= 100
    assert 1099 in ports
    assert kept.evicted == 160 - len(ports)
    assert kept.new == set(kept.rows)
    assert len(kept.page(ListFlows(limit=1000)).flows) == len(ports)
