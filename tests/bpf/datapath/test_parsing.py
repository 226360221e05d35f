"""Parsing as tables: what is changed in a good packet, and why it is dropped then."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from cilia.abi.enums import DropReason, Hook
from tests.bpf.datapath.packets import echo, error, fit, tcp, udp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, mapped

IP4, IP6 = 34, 54
"""Offsets of what is behind an IP header of either family."""
PORTS, TCP_BYTES = 8, 20
"""Bytes that are read of UDP and ICMP, and of TCP."""


def allow(here: Node) -> None:
    """Let A reach B by all that the packets of these tables are."""
    for protocol, port in ((6, 80), (17, 53), (1, 8), (58, 128)):
        here.allow(A, EGRESS, B.identity, protocol, port)
        here.allow(B, INGRESS, A.identity, protocol, port)


def at(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    """Write over a packet."""
    return lambda frame: frame[:offset] + data + frame[offset + len(data) :]


def insert(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    """Write into a packet, between what it has."""
    return lambda frame: fit(frame[:offset] + data + frame[offset:])


def cut(length: int) -> Callable[[bytes], bytes]:
    """Leave the first bytes of a packet, which is then no longer."""
    return lambda frame: fit(frame[:length])


class Case(NamedTuple):
    """A change of a packet that A sends to B, and the reason to drop it; 0: it arrives."""

    name: str
    packet: bytes
    change: Callable[[bytes], bytes]
    reason: int


def with_options(options: bytes) -> Callable[[bytes], bytes]:
    """Put options behind the IPv4 header."""
    return lambda frame: insert(IP4, options)(at(14, bytes((0x45 + len(options) // 4,)))(frame))


def extension(following: int, length: int = 0) -> bytes:
    """Return an extension header of IPv6 with ``length`` units of 8 bytes behind the first."""
    return bytes((following, length)) + bytes(6 + 8 * length)


def with_extensions(*kinds: int, protocol: int = 6, length: int = 0) -> Callable[[bytes], bytes]:
    """Put extension headers between IPv6 and what it carries."""
    followings = (*kinds[1:], protocol)
    headers = b"".join(extension(following, length) for following in followings)
    return lambda frame: insert(IP6, headers)(at(20, bytes((kinds[0],)))(frame))


def fragmented(offset: int = 0, *, more: bool = True, protocol: int = 6) -> Callable[[bytes], bytes]:
    """Put a fragment header between IPv6 and what it carries; ``offset`` in units of 8 bytes."""
    header = bytes((protocol, 0)) + (offset << 3 | int(more)).to_bytes(2, "big") + b"\0\0\0\7"
    return lambda frame: insert(IP6, header)(at(20, b"\x2c")(frame))


V4, V6 = tcp(A, B), tcp(A6, B6)
GONE = DropReason.INVALID_PACKET

CASES = [
    Case("TCP over IPv4", V4, bytes, 0),
    Case("TCP over IPv6", V6, bytes, 0),
    # Ethernet
    Case("an Ethernet protocol that isn't known", V4, at(12, b"\x88\xcc"), DropReason.UNKNOWN_L3),
    Case("a VLAN tag", V4, insert(12, b"\x81\0\0\1"), DropReason.UNKNOWN_L3),
    Case("IPv4 that says it is IPv6", V4, at(12, b"\x86\xdd"), GONE),
    Case("IPv6 that says it is IPv4", V6, at(12, b"\x08\0"), GONE),
    # IPv4
    Case("an IPv4 header shorter than 20 bytes", V4, at(14, b"\x44"), GONE),
    Case("version 5", V4, at(14, b"\x55"), GONE),
    Case("options behind which TCP ends too early", V4, at(14, b"\x4f"), GONE),
    Case("options", tcp(A, B), with_options(bytes(8)), 0),
    Case("record route", tcp(A, B), with_options(b"\7\7\4" + bytes(5)), 0),
    Case("loose source route", V4, with_options(b"\x83\7\4" + A.mac[:4] + b"\0"), DropReason.INVALID_EXTENSION),
    Case("strict source route", V4, with_options(b"\1\x89\7\4" + A.mac[:4]), DropReason.INVALID_EXTENSION),
    Case("a source route behind the options' end", V4, with_options(b"\0\x83\7\4" + A.mac[:4]), 0),
    Case("an option without length", V4, with_options(b"\7\0" + bytes(6)), GONE),
    Case("an option longer than the header", V4, with_options(b"\7\x09" + bytes(6)), GONE),
    Case("an option whose length is missing", V4, with_options(b"\1\1\1\7"), GONE),
    Case("SCTP", V4, at(23, b"\x84"), DropReason.UNKNOWN_L4),
    Case("ICMPv6 over IPv4", V4, at(23, b"\x3a"), DropReason.UNKNOWN_L4),
    Case("IPv6 in IPv4", V4, at(23, b"\x29"), DropReason.UNKNOWN_L4),
    Case("a later fragment without its first", V4, at(20, b"\0\5"), DropReason.FRAGMENT_UNKNOWN),
    Case("a first fragment", V4, lambda f: at(20, b"\x20\0")(cut(IP4 + 24)(f)), 0),
    # IPv6
    Case("ICMP over IPv6", V6, at(20, b"\1"), DropReason.UNKNOWN_L4),
    Case("no next header", V6, at(20, b"\x3b"), DropReason.UNKNOWN_L4),
    Case("an authentication header", V6, at(20, b"\x33"), DropReason.UNKNOWN_L4),
    Case("one extension header", V6, with_extensions(0), 0),
    Case("four extension headers", V6, with_extensions(0, 60, 60, 60), 0),
    Case("five extension headers", V6, with_extensions(0, 60, 60, 60, 60), DropReason.INVALID_EXTENSION),
    Case("a routing header", V6, with_extensions(43), DropReason.INVALID_EXTENSION),
    Case("a routing header behind another", V6, with_extensions(0, 43), DropReason.INVALID_EXTENSION),
    Case("options for each hop behind others", V6, with_extensions(60, 0), DropReason.INVALID_EXTENSION),
    Case("an IPv4 address as the source", V6, at(22, mapped(A.address)), DropReason.INVALID_ADDRESS),
    Case("an IPv4 address as the destination", V6, at(38, mapped(B.address)), DropReason.INVALID_ADDRESS),
    Case("extension headers too long to read behind", V6, with_extensions(60, length=57), DropReason.INVALID_EXTENSION),
    Case("an extension header that the packet ends in", V6, lambda f: at(20, b"\0")(f)[: IP6 + 4], GONE),
    Case(
        "an extension header that says it is longer than the packet",
        V6,
        lambda f: at(IP6 + 1, b"\4")(with_extensions(60)(f)),
        GONE,
    ),
    Case("an extension header before SCTP", V6, with_extensions(0, protocol=132), DropReason.UNKNOWN_L4),
    Case("a first fragment of IPv6", V6, lambda f: fragmented()(cut(IP6 + 24)(f)), 0),
    Case("a fragment header of a whole packet", V6, fragmented(more=False), 0),
    Case("a later fragment of IPv6 without its first", V6, fragmented(5, more=False), DropReason.FRAGMENT_UNKNOWN),
    Case(
        "an extension header behind a fragment header",
        V6,
        lambda f: fragmented(protocol=60)(cut(IP6 + 24)(f[:IP6] + extension(6) + f[IP6:])),
        DropReason.INVALID_EXTENSION,
    ),
    Case(
        "an extension header in a later fragment",
        V6,
        lambda f: fragmented(5, protocol=60)(cut(IP6 + 24)(f)),
        DropReason.INVALID_EXTENSION,
    ),
    Case(
        "two fragment headers",
        V6,
        lambda frame: fragmented(protocol=44)(frame[:IP6] + extension(6) + frame[IP6:]),
        DropReason.INVALID_EXTENSION,
    ),
    # ICMP
    Case("a ping", echo(A, B), bytes, 0),
    Case("a ping over IPv6", echo(A6, B6), bytes, 0),
    Case("a timestamp request", echo(A, B), at(IP4, b"\x0d"), DropReason.UNKNOWN_ICMP_TYPE),
    Case("a node information query", echo(A6, B6), at(IP6, b"\x8b"), DropReason.UNKNOWN_ICMP_TYPE),
    Case("an answer that nobody asked for", echo(A, B), at(IP4, b"\0"), DropReason.CT_INVALID),
    Case("an error about nothing", echo(A, B), at(IP4, b"\3"), GONE),
    Case("an error about a packet of others", error(A, B, tcp(B, A)), at(30, b"\x0a\1\0\x63"), DropReason.CT_INVALID),
    Case("an error about a packet that was never sent", error(A, B, tcp(B, A)), bytes, DropReason.CT_INVALID),
    Case("an error in fragments", error(A, B, tcp(B, A)), at(20, b"\x20\0"), DropReason.INVALID_FRAGMENT),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_packet_is_read_or_dropped_for_its_reason(here: Node, case: Case) -> None:
    allow(here)
    frame = case.change(case.packet)
    ran = here.run("from_pod", frame, "lxc1")
    (event,) = here.events()
    assert (ran.retval, event.reason) == (TC_ACT_SHOT if case.reason else TC_ACT_REDIRECT, case.reason)
    if case.reason:
        assert ran.packet == frame
        assert not here.flows.items()
        assert not here.flows6.items()


class Header(NamedTuple):
    """Bytes of a packet of which none may be missing."""

    name: str
    packet: bytes
    bytes_read: int

    @property
    def shortest(self) -> int:
        """Length of the shortest packet that the kernel runs a program on."""
        return IP6 if self.packet[12:14] == b"\x86\xdd" else IP4


HEADERS = [
    Header("TCP over IPv4", V4, IP4 + TCP_BYTES),
    Header("UDP over IPv4", udp(A, B), IP4 + PORTS),
    Header("a ping over IPv4", echo(A, B), IP4 + PORTS),
    Header("TCP over IPv6", V6, IP6 + TCP_BYTES),
    Header("UDP over IPv6", udp(A6, B6), IP6 + PORTS),
    Header("a ping over IPv6", echo(A6, B6), IP6 + PORTS),
    Header("TCP behind an extension header", with_extensions(0)(V6), IP6 + 8 + TCP_BYTES),
]


@pytest.mark.parametrize("header", HEADERS, ids=[header.name for header in HEADERS])
def test_a_packet_that_ends_anywhere_in_its_headers_is_dropped(here: Node, header: Header) -> None:
    allow(here)
    for length in range(header.shortest, header.bytes_read):
        assert here.run("from_pod", cut(length)(header.packet), "lxc1").retval == TC_ACT_SHOT, length
        assert [event.reason for event in here.events()] == [DropReason.INVALID_PACKET], length
    assert here.run("from_pod", cut(header.bytes_read)(header.packet), "lxc1").retval == TC_ACT_REDIRECT


@pytest.mark.parametrize("header", HEADERS, ids=[header.name for header in HEADERS])
def test_uplinks_leave_what_they_cannot_read_to_others(here: Node, header: Header) -> None:
    for length in (header.shortest, header.bytes_read - 1):
        for program in ("from_uplink", "to_uplink"):
            ran = here.run(program, cut(length)(header.packet), "uplink")
            assert (ran.retval, ran.packet) == (0xFFFF_FFFF, cut(length)(header.packet))
    assert here.events() == []


ROUTER_SOLICITATION, MLD_REPORT, REDIRECT = b"\x85", b"\x8f", b"\x89"


@pytest.mark.parametrize("kind", [ROUTER_SOLICITATION, MLD_REPORT, b"\x82", b"\x83", b"\x84"])
@pytest.mark.parametrize(("program", "hook"), [("from_pod", Hook.FROM_POD), ("to_pod", Hook.TO_POD)])
def test_what_links_say_when_they_come_up_is_counted_and_not_reported(
    here: Node, kind: bytes, program: str, hook: Hook
) -> None:
    frame = at(IP6, kind)(echo(A6, B6))
    before = here.counted(DropReason.UNKNOWN_ICMP_TYPE, hook)
    assert here.run(program, frame, "lxc1").retval == TC_ACT_SHOT
    assert here.events() == []
    assert here.counted(DropReason.UNKNOWN_ICMP_TYPE, hook) == before + 1


def test_a_redirect_of_a_pod_is_dropped_and_reported(here: Node) -> None:
    assert here.run("from_pod", at(IP6, REDIRECT)(echo(A6, B6)), "lxc1").retval == TC_ACT_SHOT
    assert [event.reason for event in here.events()] == [DropReason.UNKNOWN_ICMP_TYPE]
