"""Routes to other nodes' pods follow from the table of nodes, change by change."""

from ipaddress import ip_network

import pytest

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from services.agent.routes.desired import NativeWay, OverlayWay, Route, Routes

ME, A, B = NodeName("me"), NodeName("a"), NodeName("b")
TUNNEL = Route("169.254.1.1", 7, "10.1.0.1", onlink=True)


def row(name: NodeName, ipv4: str, *blocks: str, ipv6: str = "") -> Node:
    return Node(name, ipv4, ipv6, pod_cidrs=blocks)


def feed(routes: Routes, *rows: Node, removes: tuple[NodeName, ...] = ()) -> dict[str, Route | None]:
    routes.feed({row.name: row for row in rows}, removes)
    return {str(block): route for block, route in routes.take_changes().items()}


def test_natively_the_nodes_own_packets_leave_from_the_address_that_all_know() -> None:
    routes = Routes(ME, NativeWay({4: "192.0.2.1", 6: ""}))
    feed(routes, row(A, "192.0.2.2", "10.2.0.0/26", "fd00:2::/64", ipv6="2001:db8::2"))
    assert {route.source for route in routes.desired.values()} == {"192.0.2.1", ""}


@pytest.fixture
def native() -> Routes:
    return Routes(ME, NativeWay())


def test_a_node_s_blocks_are_reached_by_its_address_of_the_family(native: Routes) -> None:
    changes = feed(native, row(A, "192.0.2.2", "10.1.1.0/26", "fd00:1::/120", ipv6="2001:db8::2"))
    assert changes == {"10.1.1.0/26": Route("192.0.2.2"), "fd00:1::/120": Route("2001:db8::2")}


def test_a_family_that_a_node_has_no_address_of_gets_no_route(native: Routes) -> None:
    assert feed(native, row(A, "192.0.2.2", "fd00:1::/120")) == {}


def test_own_blocks_get_no_route(native: Routes) -> None:
    assert feed(native, row(ME, "192.0.2.1", "10.1.0.0/26")) == {}
    assert native.desired == {}


def test_a_node_that_moves_takes_its_routes_along_and_one_that_goes_removes_them(native: Routes) -> None:
    feed(native, row(A, "192.0.2.2", "10.1.1.0/26"), row(B, "192.0.2.3", "10.1.2.0/26"))
    assert feed(native, row(A, "192.0.2.9", "10.1.1.0/26")) == {"10.1.1.0/26": Route("192.0.2.9")}
    assert feed(native, removes=(A,)) == {"10.1.1.0/26": None}
    assert native.desired == {ip_network("10.1.2.0/26"): Route("192.0.2.3")}


def test_a_block_more_or_less_changes_that_route_only(native: Routes) -> None:
    feed(native, row(A, "192.0.2.2", "10.1.1.0/26"))
    grown = row(A, "192.0.2.2", "10.1.1.0/26", "10.1.3.0/26")
    assert feed(native, grown) == {"10.1.3.0/26": Route("192.0.2.2")}
    assert feed(native, row(A, "192.0.2.2", "10.1.3.0/26")) == {"10.1.1.0/26": None}


def test_what_stays_the_same_is_no_change(native: Routes) -> None:
    feed(native, row(A, "192.0.2.2", "10.1.1.0/26"))
    assert feed(native, Node(A, "192.0.2.2", labels=("zone=b",), pod_cidrs=("10.1.1.0/26",))) == {}


def test_a_block_with_two_holders_belongs_to_the_newer_and_survives_the_end_of_the_older(native: Routes) -> None:
    feed(native, row(A, "192.0.2.2", "10.1.1.0/26"))
    assert feed(native, row(B, "192.0.2.3", "10.1.1.0/26")) == {"10.1.1.0/26": Route("192.0.2.3")}
    assert feed(native, removes=(A,)) == {}
    assert feed(native, removes=(B,)) == {"10.1.1.0/26": None}


def test_a_block_that_another_still_claims_is_ours_once_granted_to_us(native: Routes) -> None:
    feed(native, row(A, "192.0.2.2", "10.1.1.0/26"))
    assert feed(native, row(ME, "192.0.2.1", "10.1.1.0/26")) == {"10.1.1.0/26": None}


def test_overlay_routes_wait_for_an_address_to_send_from() -> None:
    way = OverlayWay(7)
    routes = Routes(ME, way)
    assert feed(routes, row(A, "192.0.2.2", "10.1.1.0/26", "fd00:1::/120")) == {}
    way.sources[4] = "10.1.0.1"
    routes.renew()
    assert routes.take_changes() == {ip_network("10.1.1.0/26"): TUNNEL}
    way.sources[4] = "10.9.0.1"
    routes.renew()
    assert routes.take_changes() == {ip_network("10.1.1.0/26"): TUNNEL._replace(source="10.9.0.1")}


def test_overlay_routes_don_t_change_when_a_node_moves() -> None:
    routes = Routes(ME, OverlayWay(7, {4: "10.1.0.1"}))
    assert feed(routes, row(A, "192.0.2.2", "10.1.1.0/26")) == {"10.1.1.0/26": TUNNEL}
    assert feed(routes, row(A, "192.0.2.9", "10.1.1.0/26")) == {}
