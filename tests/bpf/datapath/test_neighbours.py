"""Neighbours: a pod speaks for its own address, to this host, and to nobody else."""

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import arp, fit, solicitation
from tests.bpf.datapath.rig import (
    A6,
    B6,
    GATEWAY6,
    GATEWAY_MAC,
    HOST,
    NODE6,
    TC_ACT_OK,
    TC_ACT_SHOT,
    W6,
    A,
    B,
    Node,
    Pod,
)

HOST_AT_LINK = Pod(GATEWAY6, HOST, mac=GATEWAY_MAC)
MAC = ICMPv6NDOptDstLLAddr(lladdr=A6.mac.hex(":"))


def advertised(
    *options: Packet, target: str = A6.address, dst: str = GATEWAY6, src: str = A6.address, **ip: int
) -> bytes:
    """Return an advertisement, by default one of A for itself."""
    message = IPv6(src=src, dst=dst, **{"hlim": 255, **ip}) / ICMPv6ND_NA(tgt=target, R=0)
    for option in options:
        message /= option
    return bytes(Ether(src=A6.mac.hex(":"), dst=GATEWAY_MAC.hex(":")) / message)


GOOD = {
    "with its MAC address": advertised(MAC),
    "without": advertised(),
    "to the node": advertised(MAC, dst=NODE6),
    "to all on the link": advertised(MAC, dst="ff02::1"),
    "to a link-local address": advertised(MAC, dst="fe80::1"),
}


@pytest.mark.parametrize("frame", GOOD.values(), ids=GOOD)
def test_a_pod_tells_this_host_where_its_own_address_is(here: Node, frame: bytes) -> None:
    assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_OK
    assert here.events() == []


def behind_options() -> bytes:
    packet = IPv6(src=A6.address, dst=GATEWAY6, hlim=255, nh=60) / IPv6ExtHdrDestOpt() / ICMPv6ND_NA(tgt=A6.address)
    return bytes(Ether(src=A6.mac.hex(":"), dst=GATEWAY_MAC.hex(":")) / packet)


BAD = {
    "for the gateway": (advertised(MAC, target=GATEWAY6), DropReason.INVALID_SOURCE),
    "for another pod": (advertised(MAC, target=B6.address), DropReason.INVALID_SOURCE),
    "with another's address": (advertised(MAC, src=B6.address, target=B6.address), DropReason.INVALID_SOURCE),
    "with another's MAC address": (
        advertised(ICMPv6NDOptDstLLAddr(lladdr=B6.mac.hex(":"))),
        DropReason.INVALID_MAC,
    ),
    "with two MAC addresses": (advertised(MAC, MAC), DropReason.INVALID_MAC),
    "to another pod": (advertised(MAC, dst=B6.address), DropReason.UNKNOWN_TARGET),
    "to the world": (advertised(MAC, dst=W6.address), DropReason.UNKNOWN_TARGET),
    "from afar": (advertised(MAC, hlim=254), DropReason.INVALID_PACKET),
    "cut": (fit(advertised(MAC)[:70]), DropReason.INVALID_PACKET),
    "that ends before its frame": (fit(advertised()[:62]) + advertised()[62:], DropReason.INVALID_PACKET),
    "behind extension headers": (behind_options(), DropReason.INVALID_PACKET),
}


@pytest.mark.parametrize(("frame", "reason"), BAD.values(), ids=BAD)
def test_an_advertisement_of_anything_else_is_dropped(here: Node, frame: bytes, reason: int) -> None:
    assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [reason]


def test_an_arp_reply_gives_the_pods_own_mac_address(here: Node) -> None:
    frame = arp(operation=2)
    assert here.run("from_pod", frame, "lxc1").retval == TC_ACT_OK
    forged = frame[:22] + B.mac + frame[28:]
    assert here.run("from_pod", forged, "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [DropReason.INVALID_MAC]


def test_this_host_asks_a_pod_for_its_address(here: Node) -> None:
    assert here.run("to_pod", solicitation(A6.address, HOST_AT_LINK), "lxc1").retval == TC_ACT_OK
    assert here.events() == []


def told(source: str, message: Packet) -> bytes:
    return bytes(
        Ether(src=GATEWAY_MAC.hex(":"), dst=A.mac.hex(":"))
        / IPv6(src=source, dst=A6.address, hlim=255, nh=58)
        / message
    )


STRANGE = {
    "a solicitation for another": solicitation(B6.address, HOST_AT_LINK),
    "a solicitation of another pod": told(B6.address, ICMPv6ND_NS(tgt=A6.address)),
    "an advertisement": told(GATEWAY6, ICMPv6ND_NA(tgt=GATEWAY6)),
    "another pod's advertisement": told(B6.address, ICMPv6ND_NA(tgt=B6.address)),
    "a redirect": told(GATEWAY6, Raw(b"\x89" + bytes(39))),
    "a router advertisement": told("fe80::1", Raw(b"\x86" + bytes(15))),
}


@pytest.mark.parametrize("frame", STRANGE.values(), ids=STRANGE)
def test_nothing_else_of_neighbour_discovery_reaches_a_pod(here: Node, frame: bytes) -> None:
    assert here.run("to_pod", fit(frame), "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [DropReason.UNKNOWN_ICMP_TYPE]
