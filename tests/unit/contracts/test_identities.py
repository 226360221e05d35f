"""Ranges of identities and protocols: nothing is in two, and each number says what it is."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.direction import Direction
from cilia.contracts.identities import (
    CLUSTER_ID_SHIFT,
    FIRST_ALLOCATED,
    LAST_ALLOCATED,
    NODE_SCOPE,
    PREFIX_SCOPE,
    Reserved,
    cluster_range,
    is_remote_node,
    is_reserved,
    node_range,
    prefix_range,
)
from cilia.contracts.ids import Identity
from cilia.contracts.labels import Label
from cilia.contracts.protocols import TRANSPORTS, IpProtocol, protocol_name, protocol_number

VXLAN_BITS = 24


def test_ranges_are_disjoint() -> None:
    ranges = [range(FIRST_ALLOCATED), *map(cluster_range, range(256)), prefix_range(), node_range()]
    for one, other in combinations(ranges, 2):
        assert one[-1] < other[0] or other[-1] < one[0]


@given(cluster=st.integers(0, 255), at=st.integers(0, LAST_ALLOCATED - FIRST_ALLOCATED))
def test_a_number_tells_its_cluster_and_travels_in_24_bits(cluster: int, at: int) -> None:
    identity = cluster_range(cluster)[at]
    assert identity >> CLUSTER_ID_SHIFT == cluster
    assert identity < 1 << VXLAN_BITS
    assert not is_remote_node(Identity(identity))
    assert identity not in prefix_range()
    assert identity not in node_range()


def test_the_first_cluster_begins_after_the_reserved_identities() -> None:
    assert cluster_range(0)[0] == FIRST_ALLOCATED
    assert cluster_range(0)[-1] == LAST_ALLOCATED
    assert all(is_reserved(Identity(each)) for each in Reserved)
    assert not is_reserved(Identity(FIRST_ALLOCATED))


def test_scopes_never_travel() -> None:
    assert min(prefix_range()[0], node_range()[0]) >= 1 << VXLAN_BITS
    assert all(number & ~(PREFIX_SCOPE | 0xFFFFFF) == 0 for number in (prefix_range()[0], prefix_range()[-1]))
    assert all(number & ~(NODE_SCOPE | 0xFFFFFF) == 0 for number in (node_range()[0], node_range()[-1]))
    assert PREFIX_SCOPE not in prefix_range(), "0 in a scope is nobody"
    assert NODE_SCOPE not in node_range()


def test_other_nodes_are_those_of_all_and_those_with_labels() -> None:
    assert is_remote_node(Identity(Reserved.REMOTE_NODE))
    assert is_remote_node(Identity(node_range()[0]))
    assert is_remote_node(Identity(node_range()[-1]))
    assert not any(is_remote_node(Identity(each)) for each in Reserved if each is not Reserved.REMOTE_NODE)
    assert not is_remote_node(Identity(prefix_range()[-1]))


@pytest.mark.parametrize(
    ("identity", "number", "label"),
    [
        (Reserved.HOST, 1, "reserved:host"),
        (Reserved.WORLD, 2, "reserved:world"),
        (Reserved.REMOTE_NODE, 6, "reserved:remote-node"),
        (Reserved.KUBE_APISERVER, 7, "reserved:kube-apiserver"),
        (Reserved.WORLD_IPV4, 9, "reserved:world-ipv4"),
        (Reserved.WORLD_IPV6, 10, "reserved:world-ipv6"),
    ],
)
def test_reserved_identities_have_ciliums_numbers_and_labels(identity: Reserved, number: int, label: str) -> None:
    assert (identity, identity.label) == (number, label)
    assert Label.parse(label).source == "reserved"


def test_labels_of_reserved_identities_are_distinct() -> None:
    assert len({each.label for each in Reserved}) == len(Reserved)


@pytest.mark.parametrize("protocol", IpProtocol)
def test_a_protocols_name_and_number_are_each_others(protocol: IpProtocol) -> None:
    assert protocol_name(protocol) == protocol.name
    assert protocol_number(protocol.name) == protocol_number(protocol.name.lower()) == protocol
    assert protocol_number(str(int(protocol))) == protocol


@given(st.integers(0, 255))
def test_a_protocol_without_a_name_goes_by_its_number(number: int) -> None:
    assert protocol_number(protocol_name(number)) == number


@pytest.mark.parametrize("text", ["", "QUIC", "256", "-1", "6.0", "tcp ", "0x6"])
def test_what_is_no_protocol_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="none of ICMP, TCP, UDP, ICMPV6, SCTP, and no number below 256") as caught:
        protocol_number(text)
    assert repr(text) in str(caught.value)


def test_transports_have_ports_and_icmp_has_none() -> None:
    assert set(TRANSPORTS) == {"TCP", "UDP", "SCTP"}
    assert all(TRANSPORTS[name].name == name for name in TRANSPORTS)


def test_a_direction_is_what_its_flag_says() -> None:
    assert [Direction.of(flag) for flag in (True, False)] == [Direction.EGRESS, Direction.INGRESS]
    assert [f"{each}" for each in Direction] == ["ingress", "egress"]
