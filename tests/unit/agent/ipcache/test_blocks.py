"""cilia_blocks follows the table of nodes."""

import pytest

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from services.agent.address import ipv4_number, prefix
from services.agent.ipcache.blocks import Blocks

ME, A, B = NodeName("me"), NodeName("a"), NodeName("b")
FIRST, SECOND, SIXTH = prefix("10.2.0.0/26"), prefix("10.2.1.0/26"), prefix("fd00:2::/64")
TUNNEL_A, TUNNEL_B = ipv4_number("192.0.2.2"), ipv4_number("192.0.2.3")


def row(name: NodeName, ipv4: str, *cidrs: str) -> Node:
    return Node(name, ipv4, pod_cidrs=cidrs)


@pytest.fixture
def blocks() -> Blocks:
    blocks = Blocks(ME, tunnels=True)
    blocks.feed({A: row(A, "192.0.2.2", "10.2.0.0/26", "fd00:2::/64")}, ())
    return blocks


def test_a_block_is_behind_its_node(blocks: Blocks) -> None:
    assert blocks.desired == {FIRST: TUNNEL_A, SIXTH: TUNNEL_A}
    assert blocks.take_changes() == {FIRST, SIXTH}


def test_blocks_come_and_go_with_their_row_and_nothing_else_is_touched(blocks: Blocks) -> None:
    blocks.take_changes()
    blocks.feed({A: row(A, "192.0.2.2", "10.2.0.0/26", "10.2.1.0/26")}, ())
    assert blocks.desired == {FIRST: TUNNEL_A, SECOND: TUNNEL_A}
    assert blocks.take_changes() == {SECOND, SIXTH}
    blocks.feed({}, [A])
    assert blocks.desired == {}
    assert blocks.take_changes() == {FIRST, SECOND}


def test_blocks_move_with_the_address_of_their_node(blocks: Blocks) -> None:
    blocks.take_changes()
    blocks.feed({A: row(A, "192.0.2.3", "10.2.0.0/26", "fd00:2::/64")}, ())
    assert blocks.desired == {FIRST: TUNNEL_B, SIXTH: TUNNEL_B}
    assert blocks.take_changes() == {FIRST, SIXTH}


def test_of_two_that_claim_a_block_the_newer_has_it_in_whatever_order_they_go(blocks: Blocks) -> None:
    blocks.feed({B: row(B, "192.0.2.3", "10.2.0.0/26")}, ())
    assert blocks.desired[FIRST] == TUNNEL_B
    blocks.feed({}, [A])
    assert blocks.desired == {FIRST: TUNNEL_B}
    blocks.feed({A: row(A, "192.0.2.2", "10.2.0.0/26")}, ())
    blocks.feed({}, [A])
    assert blocks.desired == {FIRST: TUNNEL_B}


def test_this_nodes_own_blocks_are_behind_no_tunnel(blocks: Blocks) -> None:
    blocks.feed({ME: row(ME, "192.0.2.1", "10.1.0.0/26", "10.2.0.0/26")}, ())
    assert blocks.desired == {SIXTH: TUNNEL_A}, "what was another's and is ours now is ours"


def test_without_tunnels_no_block_is_behind_one() -> None:
    blocks = Blocks(ME, tunnels=False)
    blocks.feed({A: row(A, "192.0.2.2", "10.2.0.0/26")}, ())
    assert blocks.desired == {}
    assert blocks.take_changes() == set()
