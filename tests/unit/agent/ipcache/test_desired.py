import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cilia.abi.enums import IpcacheFlag
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import Endpoint, EndpointKey, Node, PrefixRow
from services.agent.address import HOST_BITS, Prefix, ipv4_number, number, prefix
from services.agent.ipcache.desired import WORLD_LOCATIONS, Ipcache, Location, covering, owner_number

ROUTED = IpcacheFlag.ROUTED
ME, PEER = NodeName("node1"), NodeName("node2")
NODE2 = Node(PEER, "192.0.2.2", "2001:db8::2", pod_cidrs=("10.2.0.0/26", "10.3.0.0/26", "fd00:2::/64", "fd00:3::/64"))


def key(number: int, node: NodeName = PEER) -> EndpointKey:
    return EndpointKey(node, EndpointId(number))


def row(ipv4: str, identity: int, node: NodeName = PEER, ipv6: str = "") -> Endpoint:
    return Endpoint(node, EndpointId(1), Identity(identity), ipv4, ipv6)


@pytest.fixture
def ipcache() -> Ipcache:
    ipcache = Ipcache(ME, "192.0.2.1")
    ipcache.take_changes()
    return ipcache


def pod(identity: int, node_ipv4: str = "", number: int = 1) -> Location:
    return Location(identity, ipv4_number(node_ipv4) if node_ipv4 else 0, owner=owner_number(key(number)))


def at(ipcache: Ipcache, address: str) -> Location | None:
    return ipcache.desired.get(Prefix(number(address)))


def test_the_world_and_the_node_itself_are_known_from_the_start() -> None:
    changes = Ipcache(ME, "192.0.2.1").take_changes()
    assert changes == {**WORLD_LOCATIONS, Prefix(number("192.0.2.1")): Location(1)}
    assert (WORLD_LOCATIONS[prefix("0.0.0.0/0")], WORLD_LOCATIONS[prefix("::/0")]) == (Location(9), Location(10))


def test_a_prefix_is_known_while_policies_name_it_and_a_host_within_keeps_its_own(ipcache: Ipcache) -> None:
    ipcache.set_local(number("10.1.0.5"), Identity(300))
    ipcache.feed_prefixes({"10.0.0.0/8": PrefixRow(Identity(77)), "10.1.0.5/32": PrefixRow(Identity(78))}, ())
    assert ipcache.desired[prefix("10.0.0.0/8")] == Location(77)
    assert at(ipcache, "10.1.0.5") == Location(300)
    ipcache.set_local(number("10.1.0.5"), None)
    assert at(ipcache, "10.1.0.5") == Location(78)
    ipcache.feed_prefixes({}, ("10.0.0.0/8", "10.1.0.5/32"))
    assert ipcache.desired.keys() == {*WORLD_LOCATIONS, Prefix(number("192.0.2.1"))}


def test_a_remote_pod_lives_behind_its_node(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_endpoints({key(1): row("10.2.0.5", 300)}, ())
    assert at(ipcache, "10.2.0.5") == pod(300, "192.0.2.2")


def test_a_pod_is_unknown_until_its_node_is_known(ipcache: Ipcache) -> None:
    ipcache.feed_endpoints({key(1): row("10.2.0.5", 300)}, ())
    assert at(ipcache, "10.2.0.5") is None
    ipcache.feed_nodes({PEER: NODE2}, ())
    assert at(ipcache, "10.2.0.5") == pod(300, "192.0.2.2")


def test_a_remote_node_is_reached_directly_and_its_gateway_by_tunnel(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    assert at(ipcache, "192.0.2.2") == Location(6, ipv4_number("192.0.2.2"), ROUTED)
    assert at(ipcache, "10.2.0.1") == Location(6, ipv4_number("192.0.2.2"))


def test_a_node_has_the_identity_of_its_labels_behind_the_same_tunnel(ipcache: Ipcache) -> None:
    labelled = PrefixRow(Identity((2 << 24) + 1))
    ipcache.feed_prefixes(dict.fromkeys(("192.0.2.2/32", "10.2.0.1/32", "192.0.2.1/32"), labelled), ())
    ipcache.feed_nodes({PEER: NODE2}, ())
    assert at(ipcache, "192.0.2.2") == Location(labelled.identity, ipv4_number("192.0.2.2"), ROUTED)
    assert at(ipcache, "10.2.0.1") == Location(labelled.identity, ipv4_number("192.0.2.2"))
    assert at(ipcache, "192.0.2.1") == Location(1), "this node is the host"
    ipcache.feed_prefixes({}, ("192.0.2.2/32", "10.2.0.1/32"))
    assert at(ipcache, "192.0.2.2") == Location(6, ipv4_number("192.0.2.2"), ROUTED)
    assert at(ipcache, "10.2.0.1") == Location(6, ipv4_number("192.0.2.2"))


def test_a_prefix_of_a_policy_is_no_node(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_prefixes({"192.0.2.2/32": PrefixRow(Identity(1 << 24 | 9))}, ())
    assert at(ipcache, "192.0.2.2") == Location(6, ipv4_number("192.0.2.2"), ROUTED)


def test_pods_move_with_their_node(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_endpoints({key(1): row("10.2.0.5", 300)}, ())
    ipcache.feed_nodes({PEER: Node(PEER, "192.0.2.9", pod_cidrs=("10.2.0.0/26",))}, ())
    assert at(ipcache, "10.2.0.5") == pod(300, "192.0.2.9")
    assert at(ipcache, "192.0.2.2") is None


def test_the_late_end_of_a_pod_does_not_take_its_address_from_the_successor(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_endpoints({key(1): row("10.2.0.5", 300)}, ())
    ipcache.feed_endpoints({key(2): row("10.2.0.5", 301)}, ())
    ipcache.feed_endpoints({}, [key(1)])
    assert at(ipcache, "10.2.0.5") == pod(301, "192.0.2.2", 2)


def test_rows_of_this_node_are_passed_over(ipcache: Ipcache) -> None:
    ipcache.feed_endpoints({key(1, ME): row("10.1.0.5", 300, ME)}, ())
    assert ipcache.take_changes() == {}


def test_a_local_pod_is_known_at_once_and_goes_when_told(ipcache: Ipcache) -> None:
    ipcache.set_local(number("10.1.0.5"), Identity(300))
    assert ipcache.take_changes() == {Prefix(number("10.1.0.5")): Location(300)}
    ipcache.set_local(number("10.1.0.5"), None)
    assert ipcache.take_changes() == {Prefix(number("10.1.0.5")): None}


def test_a_remote_pod_has_one_identity_under_both_addresses(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_endpoints({key(1): row("10.2.0.5", 300, ipv6="fd00:2::5")}, ())
    assert at(ipcache, "10.2.0.5") == at(ipcache, "fd00:2::5") == pod(300, "192.0.2.2")
    assert ipcache.owner(number("fd00:2::5")) == key(1)
    ipcache.feed_endpoints({key(1): row("", 300, ipv6="fd00:2::5")}, ())
    assert (at(ipcache, "10.2.0.5"), at(ipcache, "fd00:2::5") is None) == (None, False)
    ipcache.feed_endpoints({}, [key(1)])
    assert at(ipcache, "fd00:2::5") is None


def test_the_ipv6_addresses_of_a_node_are_known_like_the_others(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    assert at(ipcache, "2001:db8::2") == Location(6, ipv4_number("192.0.2.2"), ROUTED)
    assert at(ipcache, "fd00:2::1") == Location(6, ipv4_number("192.0.2.2"))
    assert at(ipcache, "fd00:3::1") is None, "only the first block of a family has the gateway"
    ipcache.feed_nodes({}, [PEER])
    assert at(ipcache, "2001:db8::2") is at(ipcache, "fd00:2::1") is None


def test_the_longest_entry_that_covers_a_prefix_is_its_parent() -> None:
    entries = {
        **WORLD_LOCATIONS,
        prefix("10.0.0.0/8"): Location(1 << 24 | 1),
        Prefix(number("10.1.0.0")): Location(300),
    }
    assert covering(entries, prefix("10.1.0.0/16")) == 1 << 24 | 1
    assert covering(entries, prefix("10.1.0.0/32")) == 1 << 24 | 1
    assert covering(entries, prefix("192.0.2.0/24")) == 9
    assert covering(entries, prefix("2001:db8::/32")) == 10


def prefixed(address: int, length: int) -> Prefix:
    """Return the prefix of a length that holds an address."""
    behind = HOST_BITS - length
    return Prefix(address >> behind << behind, length)


@given(
    st.dictionaries(st.builds(prefixed, st.integers(0, 255), st.integers(120, 128)), st.integers(1, 9)),
    st.integers(0, 255),
    st.integers(120, 128),
)
def test_the_covering_entry_is_the_longest_network_that_holds_a_prefix(
    identities: dict[Prefix, int], address: int, length: int
) -> None:
    entries, inner = {each: Location(identity) for each, identity in identities.items()}, prefixed(address, length)
    outer = [each for each in entries if each.length < HOST_BITS and each.holds(inner)]
    longest = max(outer, key=lambda each: each.length, default=None)
    assert covering(entries, inner) == (Reserved.WORLD_IPV6 if longest is None else identities[longest])


def test_without_tunnels_nodes_and_pods_are_routed_and_no_node_is_behind_them() -> None:
    ipcache = Ipcache(ME, "192.0.2.1", tunnels=False)
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_endpoints({key(1): row("10.2.0.5", 300)}, ())
    assert (at(ipcache, "192.0.2.2"), at(ipcache, "10.2.0.5")) == (Location(6), pod(300))


def test_all_addresses_of_this_node_are_the_host_until_it_has_them_no_more(ipcache: Ipcache) -> None:
    ipcache.set_host_addresses(map(number, ("192.0.2.50", "fe80::1")))
    assert at(ipcache, "192.0.2.50") == at(ipcache, "fe80::1") == Location(1)
    ipcache.set_host_addresses([number("192.0.2.50")])
    ipcache.take_changes()
    ipcache.feed_prefixes({"192.0.2.51/32": PrefixRow(Identity(78))}, ())
    ipcache.set_host_addresses([number("192.0.2.51")])
    assert ipcache.take_changes() == {
        Prefix(number("192.0.2.50")): None,
        Prefix(number("192.0.2.51")): Location(1),
    }
    ipcache.set_host_addresses(())
    assert at(ipcache, "192.0.2.51") == Location(78)
    assert at(ipcache, "192.0.2.1") == Location(1), "it is configured with this one"


def test_another_node_is_met_by_all_addresses_that_its_row_has(ipcache: Ipcache) -> None:
    row = structs.replace(NODE2, addresses=("192.0.2.2", "198.51.100.2", "2001:db8:9::2"))
    ipcache.feed_nodes({PEER: row}, ())
    here = Location(6, ipv4_number("192.0.2.2"), ROUTED)
    assert at(ipcache, "198.51.100.2") == at(ipcache, "2001:db8:9::2") == at(ipcache, "192.0.2.2") == here
    ipcache.take_changes()
    ipcache.feed_nodes({PEER: structs.replace(row, addresses=("198.51.100.2",))}, ())
    assert ipcache.take_changes() == {Prefix(number("2001:db8:9::2")): None}, "the others stay as they are"


def test_what_this_nodes_row_says_of_its_devices_is_left_to_them(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({ME: Node(ME, "192.0.2.1", addresses=("198.51.100.1",))}, ())
    assert at(ipcache, "198.51.100.1") is None


def test_an_address_that_two_nodes_claim_is_the_newers_and_the_others_when_that_goes(ipcache: Ipcache) -> None:
    third = NodeName("node3")
    ipcache.feed_nodes({PEER: NODE2}, ())
    ipcache.feed_nodes({third: Node(third, "192.0.2.3", "2001:db8::2")}, ())
    assert at(ipcache, "2001:db8::2") == Location(6, ipv4_number("192.0.2.3"), ROUTED)
    ipcache.feed_nodes({}, [third])
    assert at(ipcache, "2001:db8::2") == Location(6, ipv4_number("192.0.2.2"), ROUTED)
    ipcache.feed_nodes({}, [PEER])
    assert at(ipcache, "2001:db8::2") is None


def test_the_next_owner_of_an_address_has_another_number_under_the_same_identity(ipcache: Ipcache) -> None:
    ipcache.feed_nodes({PEER: NODE2}, ())
    numbers = set()
    for endpoint in range(1, 50):
        ipcache.feed_endpoints({key(endpoint): row("10.2.0.5", 300)}, [key(endpoint - 1)])
        found = at(ipcache, "10.2.0.5")
        assert found is not None
        assert 1 <= found.owner <= 0xFFFF
        numbers.add(found.owner)
    assert len(numbers) == 49
