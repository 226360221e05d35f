"""Frames that are nearly valid: scapy's, of every shape that the data plane reads, with one or two
changes where a header says how the rest is to be read.
"""

import struct
from collections.abc import Callable
from functools import cache, lru_cache
from ipaddress import ip_address
from random import Random
from typing import Final, NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from tests.bpf.fuzz.frames import SHORTEST, SPEECH6, Speech

ETHERNET: Final = 14
UNTOUCHED: Final = 0.08
"""Share of frames that stay valid."""
LONGEST: Final = 400
"""Bytes of a frame, and less than BPF_PROG_TEST_RUN takes."""
DATA: Final = Raw(b"0123456789abcdef01234567")
ID: Final = 7
KINDS: Final = (0, 1, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 139, 253, 255)
"""Protocols and next headers; some exist in one family only."""
FRAGMENTS: Final = (0, 1, 2, 3, 4, 5, 6, 0x1FF0, 0x1FFC, 0x1FFE, 0x1FFF)
"""Offsets of fragments in units of 8 bytes."""
STEPS: Final = (-41, -40, -21, -20, -9, -8, -7, -4, -2, -1, 1, 2, 4, 7, 8, 9, 20, 40)
OPTIONS: Final = (
    *(b"\1\1\1\1", b"\0\0\0\0", b"\0\x83\3\4", b"\x94\4\0\0", b"\x83\3\4\0", b"\x89\3\4\0", b"\x44\4\5\0"),
    *(b"\x07\0\0\0", b"\x07\1\0\0", b"\x07\5\0\0", b"\1\1\1\x07", b"\1\1\1\x83", b"\x07\3\4\x89"),
    *(b"\1\1\x07\2\x83\7\4\0\0\0\0\0",),
)
"""Options of IPv4 in whole words: padding, source routes, of a length that none has."""


class Layer(NamedTuple):
    """A header of a frame, by its offset."""

    kind: str
    at: int


class Template(NamedTuple):
    """A valid frame, and where its headers are."""

    frame: bytes
    layers: tuple[Layer, ...]


def payloads(source_port: int, port: int) -> tuple[Packet, ...]:
    """Return what both families carry."""
    ports = {"sport": source_port, "dport": port}
    return (
        TCP(**ports, flags="S"),
        TCP(**ports, flags="A", seq=1, ack=1),
        TCP(**ports, flags="S", options=[("MSS", 1460), ("WScale", 7)]),
        UDP(**ports),
        SCTP(**ports),
    )


def whole4(ports: tuple[int, int]) -> list[Packet]:
    """Return IPv4 packets without addresses (RFC 791, 792)."""
    carried = (*payloads(*ports), ICMP(type=8, id=ID), ICMP(type=0, id=ID), ICMP(type=8, id=0), ICMP(type=13))
    made = [IP(id=ID) / each / DATA for each in carried]
    made += [IP(id=ID, flags="MF") / each / DATA for each in carried]
    made += [
        IP(id=ID, frag=at, flags=flags, proto=each) / DATA for at in (3, 6) for flags in (0, 1) for each in (1, 6, 17)
    ]
    made += [IP(id=ID, options=[IPOption(b"\x94\x04\0\0"), IPOption(b"\1")]) / each / DATA for each in carried]
    return made


def whole6(ports: tuple[int, int]) -> list[Packet]:
    """Return IPv6 packets without addresses (RFC 8200, 4443)."""
    carried = (*payloads(*ports), ICMPv6EchoRequest(id=ID), ICMPv6EchoReply(id=ID), ICMPv6EchoRequest(id=0))
    each_hop, options, fragment = IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=ID, m=1)
    made = [IPv6() / each / DATA for each in carried]
    for before in (each_hop, options, each_hop / options, IPv6ExtHdrRouting(), fragment, options / fragment):
        made += [IPv6() / before / each / DATA for each in carried]
    made += [
        IPv6() / IPv6ExtHdrFragment(id=ID, offset=at, m=more, nh=each) / DATA
        for at in (0, 3, 6)
        for more in (0, 1)
        for each in (6, 17, 58)
    ]
    return made


ERRORS4: Final = tuple(ICMP(type=kind, code=code) for kind, code in ((3, 1), (3, 4), (11, 0), (12, 0)))
ERRORS6: Final = (ICMPv6DestUnreach(), ICMPv6PacketTooBig(mtu=1280), ICMPv6TimeExceeded(), ICMPv6ParamProblem())
SHAPES: Final = (len(whole4((1, 2))), len(whole6((1, 2))))
"""Packets of each family; errors may quote any of them."""


@lru_cache
def whole(is_ipv6: bool, ports: tuple[int, int]) -> list[Packet]:
    return (whole6 if is_ipv6 else whole4)(ports)


@cache
def template(is_ipv6: bool, shape: int, quoting: int, ports: tuple[int, int]) -> Template:
    """Return a valid frame, whose addresses are still to be written.

    Args:
        shape: Index of the packet.
        quoting: 0: the packet itself; else an error about it, by its index from 1.
    """
    packet = whole(is_ipv6, ports)[shape].copy()
    ends = {"src": "::1", "dst": "::2"} if is_ipv6 else {"src": "127.0.0.1", "dst": "127.0.0.2"}
    packet.src, packet.dst = ends["src"], ends["dst"]
    if quoting:
        error = (ERRORS6 if is_ipv6 else ERRORS4)[quoting - 1]
        packet = (IPv6 if is_ipv6 else IP)(**ends) / error / packet
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet
    layers, at, each = [], 0, frame
    while each.payload:
        layers.append(Layer(type(each).__name__, at))
        at += len(each) - len(each.payload)
        each = each.payload
    return Template(bytes(frame), tuple(layers[1:]))


@cache
def packed(address: str) -> bytes:
    return ip_address(address).packed


class Draft:
    """A frame that is being changed."""

    def __init__(self, made: Template, pick: Random) -> None:
        self.frame, self.layers, self.pick = bytearray(made.frame), made.layers, pick

    def address(self, source: bytes, destination: bytes) -> None:
        """Write the addresses; what an error quotes went the other way."""
        for layer in self.layers:
            if layer.kind in ("IP", "IPv6"):
                at = layer.at + (12 if layer.kind == "IP" else 8)
                self.frame[at : at + 2 * len(source)] = source + destination
                source, destination = destination, source

    def some(self, *kinds: str) -> int:
        """Return the offset of a header of such a kind; 0: there is none."""
        found = [layer.at for layer in self.layers if layer.kind in kinds]
        return self.pick.choice(found) if found else 0

    def get(self, at: int, size: int) -> int:
        return int.from_bytes(self.frame[at : at + size], "big")

    def put(self, at: int, size: int, value: int) -> None:
        self.frame[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big")

    def resize(self, by: int) -> None:
        """Have the outer header count bytes that were added or taken."""
        at = ETHERNET + (2 if self.layers[0].kind == "IP" else 4)
        self.put(at, 2, self.get(at, 2) + by)


EXTENSIONS: Final = ("IPv6ExtHdrHopByHop", "IPv6ExtHdrDestOpt", "IPv6ExtHdrRouting", "IPv6ExtHdrFragment")


def change_length(draft: Draft) -> None:
    """Have an IP header, or UDP's, say another length."""
    pick, kind = draft.pick, draft.pick.choice(draft.layers)
    at = {"IP": kind.at + 2, "IPv6": kind.at + 4, "UDP": kind.at + 4}.get(kind.kind, ETHERNET + 2)
    ends = [layer.at - kind.at - (40 if kind.kind == "IPv6" else 0) for layer in draft.layers]
    exact = (0, 1, 8, 20, 28, 40, 48, 0xFFFF, *ends, *(end + 8 for end in ends), *(end + 20 for end in ends))
    draft.put(at, 2, draft.get(at, 2) + pick.choice(STEPS) if pick.random() < 0.6 else pick.choice(exact))


def change_header_length(draft: Draft) -> None:
    """Have a header of IPv4, TCP or an extension end elsewhere."""
    layer, pick = draft.pick.choice(draft.layers), draft.pick
    match layer.kind:
        case "IP":
            draft.put(layer.at, 1, 0x40 | pick.randrange(16))
        case "TCP":
            draft.put(layer.at + 12, 1, pick.randrange(16) << 4)
        case kind if kind in EXTENSIONS:
            draft.put(layer.at + 1, 1, pick.choice((0, 1, 2, 3, 4, 8, 55, 62, 255)))


def change_kind(draft: Draft) -> None:
    """Have a header say that another one follows."""
    layer = draft.pick.choice(draft.layers)
    offset = {"IP": 9, "IPv6": 6}.get(layer.kind, 0 if layer.kind in EXTENSIONS else None)
    if offset is not None:
        draft.put(layer.at + offset, 1, draft.pick.choice(KINDS))


def change_fragment(draft: Draft) -> None:
    """Place a fragment elsewhere, or make one of a whole packet."""
    pick = draft.pick
    if at := draft.some("IPv6ExtHdrFragment"):
        draft.put(at + 2, 2, pick.choice(FRAGMENTS) << 3 | pick.choice((0, 1, 0, 1, 2, 4, 6, 7)))
    elif at := draft.some("IP"):
        draft.put(at + 6, 2, pick.choice(FRAGMENTS) | pick.choice((0, 0x2000, 0x4000, 0x6000, 0x8000, 0xA000)))


def change_address(draft: Draft) -> None:
    """Give a packet an address that no host has, or of the other family."""
    pick = draft.pick
    if at := draft.some("IPv6"):
        value = pick.choice(
            (0, 1, 0xFFFF << 32 | 0x0A01000A, 0xFFFF << 32, 0xFF02 << 112 | 1, 0x0A01000A, 0xFE80 << 112 | 1)
        )
        draft.put(at + pick.choice((8, 24)), 16, value)
    elif at := draft.some("IP"):
        value = pick.choice((0, 0x7F000001, 0xE0000001, 0xFFFFFFFF, 0xF0000001, 0x00000001))
        draft.put(at + pick.choice((12, 16)), 4, value)


def change_icmp(draft: Draft) -> None:
    """Change a message's type, code or identifier."""
    at = draft.layers[draft.pick.randrange(len(draft.layers))].at
    found = [layer.at for layer in draft.layers if layer.kind.startswith("ICMP")]
    at = draft.pick.choice(found) if found else at
    match draft.pick.randrange(3):
        case 0:
            draft.put(at, 1, draft.pick.choice((0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 127, 128, 129, 130, 135, 136)))
        case 1:
            draft.put(at + 1, 1, draft.pick.randrange(256))
        case 2:
            draft.put(at + 4, 2, draft.pick.choice((0, 0, 1, ID, 0xFFFF)))


def change_ports(draft: Draft) -> None:
    if at := draft.some("TCP", "UDP", "SCTP"):
        draft.put(at + draft.pick.choice((0, 2)), 2, draft.pick.choice((0, 53, 80, 8472, 0xFFFF)))


def change_flags(draft: Draft) -> None:
    if at := draft.some("TCP"):
        draft.put(at + 13, 1, draft.pick.randrange(256))


def change_version(draft: Draft) -> None:
    at = draft.some("IP", "IPv6")
    draft.put(at, 1, draft.get(at, 1) & 15 | draft.pick.choice((0, 4, 5, 6, 15)) << 4)


def append(draft: Draft) -> None:
    """Put bytes behind the packet, sometimes what looks like a header of TCP to an open port."""
    pick = draft.pick
    draft.frame += pick.randbytes(pick.randrange(1, 30)) + pick.choice(
        (b"", struct.pack(">HHIIHHI", 40000, 80, 1, 0, 0x5002, 9, 0))
    )


def cut(draft: Draft) -> None:
    """Take the end off, and sometimes say so; of errors that is a shorter quote."""
    pick = draft.pick
    last = draft.layers[-1].at
    stay = pick.choice((last + pick.choice((0, 4, 7, 8, 12, 13, 19, 20)), len(draft.frame) - pick.randrange(1, 33)))
    missing = len(draft.frame) - max(stay, ETHERNET + 1)
    if missing > 0:
        del draft.frame[-missing:]
        if pick.random() < 0.7:
            draft.resize(-missing)


def insert(draft: Draft) -> None:
    """Put options into IPv4, or an extension header in front of what IPv6 carries."""
    pick, layer = draft.pick, draft.layers[0]
    if layer.kind == "IP":
        words, more = draft.frame[ETHERNET] & 15, pick.choice(OPTIONS)
        if words + len(more) // 4 > 15:
            return
        draft.put(ETHERNET, 1, 0x40 | words + len(more) // 4)
        at = ETHERNET + 20
    else:
        before = pick.choice([each for each in draft.layers if each.kind in ("IPv6", *EXTENSIONS)])
        kind, size = pick.choice((0, 43, 44, 60, 60, 51, 135)), pick.choice((0, 0, 1, 3))
        pointer = before.at + (6 if before.kind == "IPv6" else 0)
        at = (
            before.at + 40
            if before.kind == "IPv6"
            else before.at + 8 + 8 * (draft.get(before.at + 1, 1) if "Frag" not in before.kind else 0)
        )
        more = bytes((draft.get(pointer, 1), size if kind != 44 else 0, 0, pick.choice((0, 1)), 0, 0, 0, ID))
        more += bytes(8 * size) if kind != 44 else b""
        draft.put(pointer, 1, kind)
    draft.frame[at:at] = more
    draft.resize(len(more))


CHANGES: Final[tuple[Callable[[Draft], None], ...]] = (
    *(change_length, change_header_length, change_kind, change_fragment, change_address, change_icmp),
    *(change_ports, change_flags, change_version, append, cut, cut, insert),
)


def nearly(pick: Random, speech: Speech, source: str, destination: str, macs: bytes) -> bytes:
    """Return a frame between two addresses that is valid but for one or two changes."""
    is_ipv6 = speech is SPEECH6
    ports = pick.choice(((40000, 80), (40000, 80), (80, 40000), (40001, 53), (0, 80)))
    quoting = pick.randrange(1, 5) if pick.random() < 0.3 else 0
    draft = Draft(template(is_ipv6, pick.randrange(SHAPES[is_ipv6]), quoting, ports), pick)
    draft.address(packed(source), packed(destination))
    if pick.random() >= UNTOUCHED:
        pick.choice(CHANGES)(draft)
        if pick.random() < 0.4:
            pick.choice(CHANGES)(draft)
    frame = macs + bytes(draft.frame[12:LONGEST])
    return frame + bytes(max(0, SHORTEST[frame[12:14]] - len(frame)))
