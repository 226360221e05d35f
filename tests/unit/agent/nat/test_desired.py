"""Non-masquerade CIDRs follow from the settings and the table of nodes, change by change."""

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from services.agent.address import prefix
from services.agent.nat.desired import NonMasqueradeCidrs

A, B = NodeName("a"), NodeName("b")


def row(name: NodeName, *blocks: str) -> dict[NodeName, Node]:
    return {name: Node(name, "192.0.2.2", pod_cidrs=blocks)}


def test_configured_networks_and_all_blocks_of_both_families_keep_pods_addresses() -> None:
    cidrs = NonMasqueradeCidrs(["192.0.2.0/24"])
    assert cidrs.take_changes() == {prefix("192.0.2.0/24")}
    cidrs.feed(row(A, "10.1.1.0/26", "fd00:1::/120"), ())
    changed = cidrs.take_changes()
    assert changed == {prefix("10.1.1.0/26"), prefix("fd00:1::/120")}
    assert cidrs.desired.keys() == changed | {prefix("192.0.2.0/24")}


def test_a_block_that_moves_stays_until_its_last_holder_is_gone() -> None:
    cidrs = NonMasqueradeCidrs([])
    cidrs.feed(row(A, "10.1.1.0/26"), ())
    cidrs.feed(row(B, "10.1.1.0/26"), ())
    cidrs.feed({}, [A])
    assert cidrs.desired.keys() == {prefix("10.1.1.0/26")}
    cidrs.feed({}, [B])
    assert cidrs.desired == {}


def test_a_network_that_is_configured_and_a_block_stays_when_the_block_goes() -> None:
    cidrs = NonMasqueradeCidrs(["10.1.1.0/26"])
    cidrs.feed(row(A, "10.1.1.0/26"), ())
    cidrs.feed({}, [A])
    assert cidrs.desired.keys() == {prefix("10.1.1.0/26")}


def test_rows_that_change_otherwise_touch_nothing() -> None:
    cidrs = NonMasqueradeCidrs([])
    cidrs.feed(row(A, "10.1.1.0/26"), ())
    cidrs.take_changes()
    cidrs.feed({A: Node(A, "192.0.2.9", pod_cidrs=("10.1.1.0/26",))}, ())
    assert cidrs.take_changes() == set()
