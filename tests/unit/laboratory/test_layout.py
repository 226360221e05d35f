"""Names and addresses of a local cluster's parts."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.commands.local_clusters import BadClusterName
from laboratory.layout import (
    HUB_ADDRESS,
    HUB_IPV6,
    LARGEST,
    UNDERLAY_IPV6_PREFIX,
    UNDERLAY_PREFIX,
    BadNodeCount,
    BadReplicaCount,
    Families,
    Layout,
    check_replicas,
    node_addresses,
    node_names,
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)


def test_everything_of_a_cluster_bears_its_name() -> None:
    layout = Layout("one")
    assert layout.hub == "cilia-one.hub"
    assert layout.namespace("node1") == "cilia-one.node1"
    assert layout.pod_namespace("shop", "web") == "cilia-one.pod.shop.web"
    assert str(layout.directory) == "/run/cilia/one"
    assert layout.state_file.parent == layout.directory
    assert layout.log("agent/node1") == layout.directory / "logs/agent-node1.log"
    assert layout.agent_socket("node1").parent == layout.directory
    assert str(layout.pins) == "/sys/fs/bpf/cilia/one"


@given(one=NAMES, other=NAMES)
def test_no_cluster_has_a_namespace_that_looks_like_anothers(one: str, other: str) -> None:
    if one != other:
        assert not Layout(one).hub.startswith(Layout(other).namespace_prefix)


@pytest.mark.parametrize("name", ["", "-", "a-", "-a", "A", "a.b", "a/b", "../a", "a" * 33, "ä"])
def test_a_name_that_would_not_do_in_a_path_is_refused(name: str) -> None:
    with pytest.raises(BadClusterName, match="cluster name"):
        Layout(name)


def test_nodes_are_numbered_from_one() -> None:
    assert node_names(3) == ("node1", "node2", "node3")
    assert len(node_names(LARGEST)) == LARGEST


@pytest.mark.parametrize("count", [-1, 0, LARGEST + 1])
def test_a_number_of_nodes_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(BadNodeCount, match=f"nodes = {count}"):
        node_names(count)


@pytest.mark.parametrize("replicas", [0, 6])
def test_a_number_of_replicas_out_of_range_is_refused(replicas: int) -> None:
    check_replicas(1)
    with pytest.raises(BadReplicaCount, match=f"replicas = {replicas}"):
        check_replicas(replicas)


def test_every_node_has_addresses_of_its_own_on_the_underlay() -> None:
    addresses = [node_addresses(index) for index in range(LARGEST)]
    assert len({ipv4 for ipv4, _ in addresses}) == len({ipv6 for _, ipv6 in addresses}) == LARGEST
    assert (HUB_ADDRESS, HUB_IPV6) not in addresses
    underlay = ip_network(f"{HUB_ADDRESS}/{UNDERLAY_PREFIX}", strict=False)
    underlay_ipv6 = ip_network(f"{HUB_IPV6}/{UNDERLAY_IPV6_PREFIX}", strict=False)
    for ipv4, ipv6 in addresses:
        assert ip_address(str(ipv4)) in underlay
        assert ip_address(str(ipv6)) in underlay_ipv6


def test_a_family_that_pods_lack_has_no_pool() -> None:
    assert Families.DUAL.pools == {"pool": "default", "pool6": "default6"}
    assert Families.IPV4.pools == {"pool": "default", "pool6": ""}
    assert Families.IPV6.pools == {"pool": "", "pool6": "default6"}
