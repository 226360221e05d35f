"""Packets that ICMP errors quote: read as packets are, but for what is missing at their end."""

from collections.abc import Callable

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import echo, fit, is_ipv6, network, sent, tcp, udp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, Pod

ETHERNET = 14


@pytest.fixture
def open_port(here: Node) -> Node:
    """Let A reach B on TCP 80, UDP 53 and by ping."""
    for protocol, port in ((6, 80), (17, 53), (1, 8), (58, 128)):
        here.allow(A, EGRESS, B.identity, protocol, port)
        here.allow(B, INGRESS, A.identity, protocol, port)
    return here


def too_big(quoted: bytes, source: Pod, destination: Pod) -> bytes:
    """Return the error that a packet is too big, about a packet or its beginning."""
    frame = Ether(src=source.mac.hex(":"), dst="02:00:00:00:00:99") / network(source, destination)
    error = ICMPv6PacketTooBig(mtu=1300) if is_ipv6(source) else ICMP(type=3, code=4)
    return bytes(frame / error / Raw(quoted))


def reason_of(here: Node, frame: bytes, device: str = "lxc2") -> int:
    """Return why a packet is dropped; 0: it is not."""
    ran = here.run("from_pod", frame, device)
    reasons = [event.reason for event in here.events() if event.reason]
    assert ran.retval == (TC_ACT_SHOT if reasons else TC_ACT_REDIRECT)
    return sum(reasons)


FIRST6 = sent(A6, B6, IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=40000, dport=53, len=900), bytes(16))
LATER6 = sent(A6, B6, IPv6ExtHdrFragment(id=7, offset=3, nh=17), bytes(16))
FIRST4 = sent(A, B, UDP(sport=40000, dport=53, len=900), bytes(16), id=7, flags="MF")
LATER4 = sent(A, B, Raw(bytes(16)), b"", id=7, frag=3, proto=17)
QUOTED = {
    "behind extension headers": [sent(A6, B6, IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=40000, dport=53))],
    "behind options": [sent(A, B, TCP(sport=40000, dport=80), options=b"\1" * 8)],
    "of a first fragment of IPv6": [FIRST6],
    "of a later fragment of IPv6": [FIRST6, LATER6],
    "of a first fragment of IPv4": [FIRST4],
    "of a later fragment of IPv4": [FIRST4, LATER4],
    "of an atomic fragment": [sent(A6, B6, IPv6ExtHdrFragment(id=7) / UDP(sport=40000, dport=53))],
    "of a ping": [echo(A, B)],
    "of a ping over IPv6": [echo(A6, B6)],
}


@pytest.mark.parametrize("packets", QUOTED.values(), ids=QUOTED)
def test_an_error_reaches_the_flow_of_the_packet_that_it_quotes(open_port: Node, packets: list[bytes]) -> None:
    source, target = (A6, B6) if packets[0][12:14] == b"\x86\xdd" else (A, B)
    told = too_big(packets[-1][ETHERNET:], target, source)
    assert reason_of(open_port, told) in (DropReason.CT_INVALID, DropReason.FRAGMENT_UNKNOWN)
    for packet in packets:
        assert reason_of(open_port, packet, "lxc1") == 0
    before = len(open_port.fragments.items())
    assert reason_of(open_port, told) == 0
    assert len(open_port.fragments.items()) == before


@pytest.mark.parametrize(("client", "server"), [(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def test_an_error_about_an_answer_reaches_who_answered(open_port: Node, client: Pod, server: Pod) -> None:
    assert reason_of(open_port, echo(client, server), "lxc1") == 0
    answer = echo(server, client, kind=0)
    assert reason_of(open_port, answer) == 0
    assert reason_of(open_port, too_big(answer[ETHERNET:], client, server), "lxc1") == 0


HEADERS = {
    "tcp": tcp(A, B),
    "udp": udp(A, B),
    "echo": echo(A, B),
    "udp over IPv6": udp(A6, B6),
    "tcp over IPv6": tcp(A6, B6),
}


@pytest.mark.parametrize("packet", HEADERS.values(), ids=HEADERS)
def test_eight_bytes_of_a_quoted_header_are_enough_and_fewer_are_not(open_port: Node, packet: bytes) -> None:
    source, target = (A6, B6) if packet[12:14] == b"\x86\xdd" else (A, B)
    header = 40 if source is A6 else 20
    assert reason_of(open_port, packet, "lxc1") == 0
    quoted = packet[ETHERNET:]
    for length in range(header + 8):
        assert reason_of(open_port, too_big(quoted[:length], target, source)) == DropReason.INVALID_PACKET, length
    assert reason_of(open_port, too_big(quoted[: header + 8], target, source)) == 0


def behind(*headers: type) -> bytes:
    layer = UDP(sport=40000, dport=53)
    for header in reversed(headers):
        layer = header() / layer
    return sent(A6, B6, layer)


UNREADABLE = {
    "that says it ends in its ports": (
        lambda f: fit(f[: 14 + 22]) + f[14 + 22 :],
        udp(A, B),
        DropReason.INVALID_PACKET,
    ),
    "of another version": (lambda f: f[:14] + b"\x65" + f[15:], udp(A, B), DropReason.INVALID_PACKET),
    "with a short header": (lambda f: f[:14] + b"\x44" + f[15:], udp(A, B), DropReason.INVALID_PACKET),
    "of an unknown protocol": (lambda f: f[:23] + b"\x3a" + f[24:], udp(A, B), DropReason.UNKNOWN_L4),
    "with a routing header": (bytes, behind(IPv6ExtHdrRouting), DropReason.INVALID_EXTENSION),
    "with five extension headers": (bytes, behind(*[IPv6ExtHdrDestOpt] * 5), DropReason.INVALID_EXTENSION),
    "behind a fragment header and another": (
        bytes,
        behind(IPv6ExtHdrFragment, IPv6ExtHdrDestOpt),
        DropReason.INVALID_EXTENSION,
    ),
    "that is an error itself": (bytes, too_big(udp(B, A)[ETHERNET:], A, B), DropReason.UNKNOWN_ICMP_TYPE),
    "of others": (bytes, udp(B, A), DropReason.CT_INVALID),
}


@pytest.mark.parametrize(("change", "packet", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_error_that_quotes_what_was_never_sent_is_dropped_and_reported_as_itself(
    open_port: Node, change: Callable[[bytes], bytes], packet: bytes, reason: int
) -> None:
    source, target = (A6, B6) if packet[12:14] == b"\x86\xdd" else (A, B)
    assert reason_of(open_port, udp(source, target), "lxc1") == 0
    told = too_big(change(packet)[ETHERNET:], target, source)
    assert open_port.run("from_pod", told, "lxc2").retval == TC_ACT_SHOT
    (event,) = open_port.events()
    assert event.reason == reason
    assert (event.protocol, event.source[-1], event.destination[-1]) == (
        58 if source is A6 else 1,
        int(target.address[-1], 16) if source is A6 else 11,
        int(source.address[-1], 16) if source is A6 else 10,
    )
