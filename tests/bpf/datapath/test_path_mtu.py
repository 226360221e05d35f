"""Packets that don't fit into the tunnel: the sender is told, with the size that does."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import sent
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    GATEWAY,
    GATEWAY6,
    GATEWAY_MAC,
    INGRESS,
    R6,
    TC_ACT_REDIRECT,
    A,
    B,
    Node,
    Pod,
    R,
    node,
    populate,
    reset,
)

MTU = 1400
IPV4_HEADERS, IPV6_HEADERS = 28, 48


@pytest.fixture(scope="module")
def narrow() -> Iterator[Node]:
    with node(variables={"overlay_mtu": MTU}) as made:
        yield made


@pytest.fixture
def here(narrow: Node) -> Node:
    reset(narrow)
    populate(narrow)
    narrow.allow(A, EGRESS)
    narrow.allow(B, INGRESS)
    return narrow


def datagram(source: Pod, destination: Pod, size: int, **ip: object) -> bytes:
    """Return a frame whose IP packet has so many bytes."""
    headers = IPV6_HEADERS if ":" in source.address else IPV4_HEADERS
    if headers == IPV4_HEADERS:
        ip.setdefault("flags", "DF")
    return sent(source, destination, UDP(sport=40000, dport=53), b"x" * (size - headers), **ip)


@pytest.mark.parametrize(("source", "target"), [(A, R), (A6, R6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("is_known", [False, True], ids=["first", "next"])
def test_what_just_fits_passes(here: Node, source: Pod, target: Pod, is_known: bool) -> None:
    frame = datagram(source, target, MTU)
    if is_known:
        here.run("from_pod", frame, "lxc1")
    ran = here.run("from_pod", frame, "lxc1")
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, frame)


@pytest.mark.parametrize("is_known", [False, True], ids=["first", "next"])
def test_a_pod_is_told_that_its_ipv4_packet_is_too_big(here: Node, is_known: bool) -> None:
    if is_known:
        here.run("from_pod", datagram(A, R, 100), "lxc1")
        here.events()
    frame = datagram(A, R, MTU + 1)
    ran = here.run("from_pod", frame, "lxc1")
    answer = Ether(ran.packet)
    assert ran.retval == TC_ACT_REDIRECT
    assert (answer.dst, answer.src) == (A.mac.hex(":"), GATEWAY_MAC.hex(":"))
    assert (answer[IP].src, answer[IP].dst) == (GATEWAY, A.address)
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, MTU)
    assert ran.packet[42:] == frame[14 : 14 + 68]
    fresh = Ether(ran.packet)
    del fresh[IP].chksum, fresh[ICMP].chksum
    assert bytes(fresh) == ran.packet
    assert here.events()[-1].reason == DropReason.TOO_BIG


@pytest.mark.parametrize("is_known", [False, True], ids=["first", "next"])
def test_a_pod_is_told_that_its_ipv6_packet_is_too_big(here: Node, is_known: bool) -> None:
    if is_known:
        here.run("from_pod", datagram(A6, R6, 100), "lxc1")
        here.events()
    frame = datagram(A6, R6, MTU + 1)
    ran = here.run("from_pod", frame, "lxc1")
    answer = Ether(ran.packet)
    assert ran.retval == TC_ACT_REDIRECT
    assert (answer.dst, answer.src) == (A.mac.hex(":"), GATEWAY_MAC.hex(":"))
    assert (answer[IPv6].src, answer[IPv6].dst) == (GATEWAY6, A6.address)
    assert answer[ICMPv6PacketTooBig].mtu == MTU
    assert ran.packet[62:] == frame[14 : 14 + 88]
    fresh = Ether(ran.packet)
    del fresh[ICMPv6PacketTooBig].cksum
    assert bytes(fresh) == ran.packet
    assert here.events()[-1].reason == DropReason.TOO_BIG


def test_ipv4_that_may_be_fragmented_is_left_to_the_tunnel(here: Node) -> None:
    frame = datagram(A, R, MTU + 100, flags=0)
    ran = here.run("from_pod", frame, "lxc1")
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, frame)


@pytest.mark.parametrize(("source", "target"), [(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def test_pods_of_one_node_may_send_more(here: Node, source: Pod, target: Pod) -> None:
    frame = datagram(source, target, MTU + 1)
    ran = here.run("from_pod", frame, "lxc1")
    assert (ran.retval, ran.packet[12:]) == (TC_ACT_REDIRECT, frame[12:])


def test_segments_that_fit_make_a_packet_that_does(here: Node) -> None:
    frame = sent(A, R, TCP(sport=40000, dport=80), b"x" * 3000, flags="DF")
    ran = here.run("from_pod", frame, "lxc1", gso_size=MTU - 40)
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, frame)
    ran = here.run("from_pod", frame, "lxc1", gso_size=MTU - 39)
    assert Ether(ran.packet)[ICMP].nexthopmtu == MTU
