"""The model's reading of a frame: what bpf/lib's parser should make of any bytes.

Written from the RFCs and the remarks in the headers, on bytes with an end, without sight of the C's
steps. Addresses are numbers of 128 bits, IPv4 as ::ffff:a.b.c.d.
"""

from dataclasses import dataclass, replace
from typing import Final

from cilia.abi.enums import DropReason, Hook

ETHERNET_BYTES: Final = 14
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ECHO_REPLY, ECHO = 0, 8
ECHO6, ECHO_REPLY6 = 128, 129
ECHOES: Final = {ICMP: (ECHO, ECHO_REPLY), ICMP6: (ECHO6, ECHO_REPLY6)}
ERRORS: Final = {ICMP: (3, 11, 12), ICMP6: (1, 2, 3, 4)}
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
EXTENSIONS: Final = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION)
END_OF_OPTIONS, NOOP, LOOSE_ROUTE, STRICT_ROUTE = 0, 1, 131, 137
MOST_EXTENSIONS: Final = 4
FARTHEST: Final = 512
"""Offset in the frame behind which nobody looks for a port."""
MAPPED: Final = 0xFFFF << 32
LONGEST: Final = 0xFFFF


class Unreadable(Exception):
    """The frame has to be dropped for ``reason``; with a control message of IPv6, that has
    ``icmp_type``.
    """

    def __init__(self, reason: int, icmp_type: int = 0, source: int = 0) -> None:
        super().__init__(DropReason(reason).name)
        self.reason = reason
        self.icmp_type = icmp_type
        self.source = source


@dataclass(frozen=True, slots=True)
class Header:
    """The end points of a packet; addresses and ports in host order.

    An ICMP error has those of an answer in the flow that it is about. ``fragment`` is the id of a
    fragmented packet, whose part of ``length`` bytes begins ``start`` bytes into the whole one's;
    of a later part the ports are not known.
    """

    source: int
    destination: int
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = 0
    sequence: int = 0
    acknowledged: int = 0
    icmp_type: int = 0
    is_error: bool = False
    fragment: int | None = None
    start: int = 0
    length: int = 0
    at: int = 0
    """Offset in the frame of what is behind IP."""
    end: int = 0


def number(data: bytes, offset: int, size: int) -> int:
    """Read a number in network order.

    Raises:
        Unreadable: The data ends before.
    """
    if offset + size > len(data):
        raise Unreadable(DropReason.INVALID_PACKET)
    return int.from_bytes(data[offset : offset + size], "big")


def need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise Unreadable(DropReason.INVALID_PACKET)


def ethertype(frame: bytes) -> int:
    return number(frame, 12, 2)


def read(frame: bytes, hook: Hook) -> Header:
    """Read a frame.

    Raises:
        Unreadable: It isn't a whole IP packet of a known kind.
    """
    match ethertype(frame):
        case 0x0800:
            header = read_ipv4(frame[ETHERNET_BYTES:], ETHERNET_BYTES)
        case 0x86DD:
            header = read_ipv6(frame[ETHERNET_BYTES:], ETHERNET_BYTES)
        case _:
            raise Unreadable(DropReason.UNKNOWN_L3)
    return read_error(frame, header, hook) if header.is_error else header


def whole(ip: bytes, length: int, *, is_quoted: bool) -> bytes:
    """Return a packet without what follows it; of a quoted one the end may be missing."""
    if not is_quoted:
        need(ip, length)
    return ip[:length]


def read_ipv4(ip: bytes, at: int, *, is_quoted: bool = False) -> Header:
    """Read a packet that is ``at`` an offset of its frame."""
    need(ip, 20)
    length = 4 * (ip[0] & 15)
    if ip[0] >> 4 != 4 or length < 20:
        raise Unreadable(DropReason.INVALID_PACKET)
    if number(ip, 2, 2) < length:
        raise Unreadable(DropReason.INVALID_PACKET)
    ip = whole(ip, number(ip, 2, 2), is_quoted=is_quoted)
    if ip[9] not in (ICMP, TCP, UDP):
        raise Unreadable(DropReason.UNKNOWN_L4)
    read_options(ip, length)
    header = Header(MAPPED | number(ip, 12, 4), MAPPED | number(ip, 16, 4), ip[9])
    bits = number(ip, 6, 2)
    if not bits & 0x3FFF:
        return read_payload(ip[length:], replace(header, at=at + length), is_quoted=is_quoted)
    header = replace(header, fragment=number(ip, 4, 2), start=8 * (bits & 0x1FFF), at=at + length)
    return read_part(ip[length:], header, has_more=bool(bits & 0x2000), is_quoted=is_quoted)


def read_options(ip: bytes, end: int) -> None:
    """Refuse options that are broken, or by which the sender chooses the way."""
    offset = 20
    while offset < end:
        if number(ip, offset, 1) == END_OF_OPTIONS:
            return
        if ip[offset] in (LOOSE_ROUTE, STRICT_ROUTE):
            raise Unreadable(DropReason.INVALID_EXTENSION)
        length = 1 if ip[offset] == NOOP else number(ip[:end], offset + 1, 1)
        if length < 1 + (ip[offset] != NOOP) or offset + length > end:
            raise Unreadable(DropReason.INVALID_PACKET)
        offset += length


def read_ipv6(ip: bytes, at: int, *, is_quoted: bool = False) -> Header:
    """Read a packet that is ``at`` an offset of its frame."""
    need(ip, 40)
    if ip[0] >> 4 != 6:
        raise Unreadable(DropReason.INVALID_PACKET)
    if not number(ip, 4, 2):
        raise Unreadable(DropReason.INVALID_PACKET)
    ip = whole(ip, 40 + number(ip, 4, 2), is_quoted=is_quoted)
    header = Header(number(ip, 8, 16), number(ip, 24, 16), ip[6])
    if any(address >> 32 == MAPPED >> 32 for address in (header.source, header.destination)):
        raise Unreadable(DropReason.INVALID_ADDRESS)
    offset, fragment = 40, None
    for index in range(MOST_EXTENSIONS):
        if header.protocol not in EXTENSIONS or fragment is not None:
            break
        if header.protocol == ROUTING or (index and header.protocol == HOP_BY_HOP):
            raise Unreadable(DropReason.INVALID_EXTENSION)
        need(ip[offset:], 8)
        if header.protocol == FRAGMENT:
            fragment = ip[offset : offset + 8]
        header = replace(header, protocol=ip[offset])
        offset += 8 if fragment else 8 + 8 * ip[offset + 1]
    if header.protocol in EXTENSIONS or at + offset > FARTHEST:
        raise Unreadable(DropReason.INVALID_EXTENSION)
    if header.protocol not in (ICMP6, TCP, UDP):
        raise Unreadable(DropReason.UNKNOWN_L4)
    header = replace(header, at=at + offset)
    if fragment is None or not number(fragment, 2, 2) & 0xFFF9:
        return read_payload(ip[offset:], header, is_quoted=is_quoted)
    bits = number(fragment, 2, 2)
    header = replace(header, fragment=number(fragment, 4, 4), start=bits & 0xFFF8)
    return read_part(ip[offset:], header, has_more=bool(bits & 1), is_quoted=is_quoted)


def read_part(payload: bytes, header: Header, *, has_more: bool, is_quoted: bool) -> Header:
    """Read a fragment's payload."""
    header = replace(header, length=len(payload))
    if is_quoted:
        return header if header.start else read_payload(payload, header, is_quoted=True)
    if not payload or (has_more and len(payload) % 8) or header.start + len(payload) > LONGEST:
        raise Unreadable(DropReason.INVALID_FRAGMENT)
    if header.start:
        return header
    first = 20 if header.protocol == TCP else 8
    if len(payload) < first or (header.protocol == TCP and len(payload) < 4 * (payload[12] >> 4)):
        raise Unreadable(DropReason.INVALID_FRAGMENT)
    read = read_payload(payload, header, is_quoted=False)
    if read.is_error:
        raise Unreadable(DropReason.FRAGMENT)
    return read


def read_payload(payload: bytes, header: Header, *, is_quoted: bool) -> Header:
    need(payload, 8)
    if header.protocol in ECHOES:
        return read_icmp(payload, header, is_quoted=is_quoted)
    ports = replace(header, source_port=number(payload, 0, 2), destination_port=number(payload, 2, 2))
    if header.protocol == UDP or is_quoted:
        return ports
    need(payload, 20)
    sequence, acknowledged = number(payload, 4, 4), number(payload, 8, 4)
    return replace(ports, tcp_flags=payload[13], sequence=sequence, acknowledged=acknowledged)


def read_icmp(icmp: bytes, header: Header, *, is_quoted: bool) -> Header:
    kind, identifier = icmp[0], number(icmp, 4, 2)
    echo, reply = ECHOES[header.protocol]
    if kind == echo:
        return replace(header, source_port=identifier, icmp_type=kind)
    if kind == reply:
        return replace(header, destination_port=identifier, icmp_type=kind)
    if kind in ERRORS[header.protocol] and not is_quoted:
        return replace(header, icmp_type=kind, is_error=True, end=header.at + len(icmp))
    raise Unreadable(DropReason.UNKNOWN_ICMP_TYPE, kind if header.protocol == ICMP6 else 0, header.source)


def read_error(frame: bytes, header: Header, hook: Hook) -> Header:
    """Read what an error quotes: the packet that its receiver had sent to the answer's source."""
    at = header.at + 8
    quoted = frame[at : header.end]
    try:
        asked = (read_ipv6 if header.protocol == ICMP6 else read_ipv4)(quoted, at, is_quoted=True)
    except Unreadable as broken:
        raise Unreadable(broken.reason) from broken
    if asked.source != header.destination or (hook == Hook.FROM_POD and asked.destination != header.source):
        raise Unreadable(DropReason.CT_INVALID)
    return replace(
        asked,
        source=asked.destination,
        destination=asked.source,
        source_port=asked.destination_port,
        destination_port=asked.source_port,
        icmp_type=header.icmp_type,
        is_error=True,
    )
