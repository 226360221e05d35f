"""Requests about links, addresses, neighbours and routes: their bytes, as pyroute2 reads them."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from services.agent.netlink import requests
from services.agent.netlink.rtnetlink import HEADER, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request

IPV4, IPV6 = 2, 10
MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


def read(kind: Any, request: Request) -> Any:
    """Return a request as pyroute2 decodes it."""
    head = HEADER.pack(HEADER.size + len(request.body), request.kind, request.flags, 1, 0)
    message = kind(head + request.body)
    message.decode()
    return message


def test_a_pair_is_made_with_its_peer_in_the_pods_namespace_at_once() -> None:
    request = requests.new_veth("lxc1", MAC, peer="eth0", peer_mac=PEER_MAC, peer_netns=5, mtu_bytes=1450)
    link = read(ifinfmsg, request)
    assert (request.kind, request.flags) == (requests.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
    assert (link.get("ifname"), link.get("address"), link.get("mtu")) == ("lxc1", MAC, 1450)
    info = link.get("linkinfo")
    assert info.get("kind") == "veth"
    peer = info.get("data").get_attr("VETH_INFO_PEER")
    assert (peer.get("ifname"), peer.get("address"), peer.get("mtu")) == ("eth0", PEER_MAC, 1450)
    assert peer.get("net_ns_fd") == 5


def test_a_pair_of_the_node_itself_gets_its_mac_addresses_from_the_kernel() -> None:
    link = read(ifinfmsg, requests.new_local_veth("cilia_host", peer="cilia_net", mtu_bytes=1450))
    peer = link.get("linkinfo").get("data").get_attr("VETH_INFO_PEER")
    for each, name in ((link, "cilia_host"), (peer, "cilia_net")):
        assert (each.get("ifname"), each.get("mtu"), each.get("address")) == (name, 1450, None)
    assert peer.get("net_ns_fd") is None


def test_a_vxlan_device_gets_its_peer_with_each_packet_and_learns_none() -> None:
    request = requests.new_vxlan("cilia_vxlan", 8472)
    link = read(ifinfmsg, request)
    info = link.get("linkinfo")
    options = {name: info.get("data").get(name) for name in ("vxlan_port", "vxlan_collect_metadata", "vxlan_learning")}
    assert (link.get("ifname"), info.get("kind"), *options.values()) == ("cilia_vxlan", "vxlan", 8472, 1, 0)


def test_a_device_gets_another_mtu_or_asks_for_no_neighbour() -> None:
    link = read(ifinfmsg, requests.set_mtu(7, 1450))
    assert (link["index"], link.get("mtu"), link["change"]) == (7, 1450, 0)
    silent = read(ifinfmsg, requests.without_arp(7))
    assert (silent["index"], silent["flags"], silent["change"]) == (7, 0x80, 0x80)


def test_a_device_is_removed_by_name_and_brought_up_by_index() -> None:
    gone = requests.delete_link("lxc1")
    assert (gone.kind, read(ifinfmsg, gone).get("ifname")) == (requests.RTM_DELLINK, "lxc1")
    up = requests.set_up(7)
    link = read(ifinfmsg, up)
    assert (up.kind, link["index"], link["flags"], link["change"]) == (requests.RTM_SETLINK, 7, 1, 1)


def test_the_state_of_a_link_is_asked_for_by_index() -> None:
    request = requests.sync_link_state(7)
    assert (request.kind, read(ifinfmsg, request)["index"]) == (requests.RTM_GETLINK, 7)


def test_a_device_gets_no_link_local_address() -> None:
    link = read(ifinfmsg, requests.without_link_local(7))
    assert link["index"] == 7
    assert link.get("af_spec").get("AF_INET6").get("IFLA_INET6_ADDR_GEN_MODE") == 1


@pytest.mark.parametrize(("address", "family", "bits"), [("10.1.0.2", IPV4, 32), ("fd00::2", IPV6, 128)])
def test_an_address_is_alone_on_its_link_and_in_use_at_once(address: str, family: int, bits: int) -> None:
    request = requests.add_address(7, address)
    found = read(ifaddrmsg, request)
    assert (request.kind, request.flags) == (requests.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)
    assert (found["family"], found["prefixlen"], found["index"], found["flags"]) == (family, bits, 7, 2)
    assert (found.get("local"), found.get("address")) == (address, address)


@pytest.mark.parametrize(("address", "family"), [("10.1.0.1", IPV4), ("fd00::1", IPV6)])
def test_a_neighbour_is_there_for_good(address: str, family: int) -> None:
    request = requests.set_neighbour(7, address, MAC)
    found = read(ndmsg, request)
    assert request.flags == NLM_F_CREATE | NLM_F_REPLACE
    assert (found["family"], found["ifindex"], found["state"]) == (family, 7, requests.NUD_PERMANENT)
    assert (found.get("dst"), found.get("lladdr")) == (address, MAC)


@pytest.mark.parametrize(("address", "family", "bits"), [("10.1.0.2", IPV4, 32), ("fd00::2", IPV6, 128)])
def test_a_pod_is_behind_its_link(address: str, family: int, bits: int) -> None:
    route = read(rtmsg, requests.set_host_route(7, address))
    assert (route["family"], route["dst_len"], route["scope"], route["table"]) == (family, bits, 253, 254)
    assert (route.get("dst"), route.get("oif"), route.get("gateway")) == (address, 7, None)


@pytest.mark.parametrize(("gateway", "family"), [("10.1.0.1", IPV4), ("fd00::1", IPV6)])
def test_all_else_goes_by_a_gateway_that_is_on_the_link_whatever_the_addresses_say(gateway: str, family: int) -> None:
    route = read(rtmsg, requests.add_default_route(7, gateway))
    assert (route["family"], route["dst_len"], route["flags"]) == (family, 0, requests.RTNH_F_ONLINK)
    assert (route.get("gateway"), route.get("oif"), route.get("dst")) == (gateway, 7, None)


@given(st.ip_addresses(), st.integers(1, 2**31 - 1))
def test_every_address_is_read_back(address: object, ifindex: int) -> None:
    found = read(ifaddrmsg, requests.add_address(ifindex, str(address)))
    assert (ip_address(found.get("local")), found["index"]) == (address, ifindex)


@pytest.mark.parametrize("name", ["e", "eth0", "a-name-15-bytes"])
def test_names_of_all_lengths_are_read_back(name: str) -> None:
    assert read(ifinfmsg, requests.delete_link(name)).get("ifname") == name
