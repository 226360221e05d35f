"""Where pods are known by their own addresses: the settings and the table of nodes, change by
change.
"""

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from services.agent.address import prefix
from services.agent.nat.excluded import ExcludedCidrs

A, B = NodeName("a"), NodeName("b")


def row(name: NodeName, *blocks: str) -> dict[NodeName, Node]:
    return {name: Node(name, "192.0.2.2", pod_cidrs=blocks)}


def test_configured_networks_and_all_blocks_of_both_families_are_excluded() -> None:
    exclusions = ExcludedCidrs(["192.0.2.0/24"])
    touched = exclusions.feed(row(A, "10.1.1.0/26", "fd00:1::/120"), ())
    assert touched == {prefix("10.1.1.0/26"), prefix("fd00:1::/120")}
    assert exclusions.desired == touched | {prefix("192.0.2.0/24")}


def test_a_block_that_moves_stays_until_its_last_holder_is_gone() -> None:
    exclusions = ExcludedCidrs([])
    exclusions.feed(row(A, "10.1.1.0/26"), ())
    exclusions.feed(row(B, "10.1.1.0/26"), ())
    exclusions.feed({}, [A])
    assert exclusions.desired == {prefix("10.1.1.0/26")}
    exclusions.feed({}, [B])
    assert exclusions.desired == set()


def test_a_network_that_is_configured_and_a_block_stays_when_the_block_goes() -> None:
    exclusions = ExcludedCidrs(["10.1.1.0/26"])
    exclusions.feed(row(A, "10.1.1.0/26"), ())
    exclusions.feed({}, [A])
    assert exclusions.desired == {prefix("10.1.1.0/26")}


def test_rows_that_change_otherwise_touch_nothing() -> None:
    exclusions = ExcludedCidrs([])
    exclusions.feed(row(A, "10.1.1.0/26"), ())
    assert exclusions.feed({A: Node(A, "192.0.2.9", pod_cidrs=("10.1.1.0/26",))}, ()) == set()
