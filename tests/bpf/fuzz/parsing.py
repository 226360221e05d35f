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
MOST_EXTENSIONS: Final = 4
FARTHEST: Final = 512
"""Offset in the frame behind which nobody looks for a port."""
MAPPED: Final = 0xFFFF << 32


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
    fragmented packet; of a fragment that ``is_later`` the ports are not known.
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
    is_later: bool = False


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
            return read_ipv4(frame[ETHERNET_BYTES:], hook)
        case 0x86DD:
            return read_ipv6(frame[ETHERNET_BYTES:], hook)
    raise Unreadable(DropReason.UNKNOWN_L3)


def read_ipv4(ip: bytes, hook: Hook) -> Header:
    need(ip, 20)
    length = 4 * (ip[0] & 15)
    if ip[0] >> 4 != 4 or length < 20:
        raise Unreadable(DropReason.INVALID_PACKET)
    if ip[9] not in (ICMP, TCP, UDP):
        raise Unreadable(DropReason.UNKNOWN_L4)
    header = Header(MAPPED | number(ip, 12, 4), MAPPED | number(ip, 16, 4), ip[9])
    bits = number(ip, 6, 2)
    if bits & 0x3FFF:
        header = replace(header, fragment=number(ip, 4, 2))
    return read_part(ip[length:], header, 8 * (bits & 0x1FFF), hook)


def read_ipv6(ip: bytes, hook: Hook) -> Header:
    need(ip, 40)
    if ip[0] >> 4 != 6:
        raise Unreadable(DropReason.INVALID_PACKET)
    header = Header(number(ip, 8, 16), number(ip, 24, 16), ip[6])
    offset = 40
    start = fragments = 0
    for _ in range(MOST_EXTENSIONS):
        if header.protocol not in EXTENSIONS or start:
            break
        need(ip[offset:], 8)
        if header.protocol == FRAGMENT:
            fragments += 1
            if fragments > 1:
                raise Unreadable(DropReason.INVALID_EXTENSION)
            bits = number(ip, offset + 2, 2)
            start = bits & 0xFFF8
            if bits & 0xFFF9:
                header = replace(header, fragment=number(ip, offset + 4, 4))
            length = 8
        else:
            length = 8 + 8 * ip[offset + 1]
        header = replace(header, protocol=ip[offset])
        offset += length
    if header.protocol in EXTENSIONS or ETHERNET_BYTES + offset > FARTHEST:
        raise Unreadable(DropReason.INVALID_EXTENSION)
    if header.protocol not in (ICMP6, TCP, UDP):
        raise Unreadable(DropReason.UNKNOWN_L4)
    return read_part(ip[offset:], header, start, hook)


def read_part(payload: bytes, header: Header, start: int, hook: Hook) -> Header:
    """Read a packet's payload, or a fragment's that begins ``start`` bytes into the whole."""
    if start:
        if header.protocol == TCP and start < 20:
            raise Unreadable(DropReason.INVALID_PACKET)
        return replace(header, is_later=True)
    whole = read_payload(payload, header, hook)
    if whole.is_error and header.fragment is not None:
        raise Unreadable(DropReason.FRAGMENT)
    return whole


def read_payload(payload: bytes, header: Header, hook: Hook) -> Header:
    need(payload, 8)
    if header.protocol in ECHOES:
        return read_icmp(payload, header, hook)
    ports = replace(header, source_port=number(payload, 0, 2), destination_port=number(payload, 2, 2))
    if header.protocol == UDP:
        return ports
    need(payload, 20)
    sequence, acknowledged = number(payload, 4, 4), number(payload, 8, 4)
    return replace(ports, tcp_flags=payload[13], sequence=sequence, acknowledged=acknowledged)


def read_icmp(icmp: bytes, header: Header, hook: Hook) -> Header:
    kind, identifier = icmp[0], number(icmp, 4, 2)
    echo, reply = ECHOES[header.protocol]
    if kind == echo:
        return replace(header, source_port=identifier, icmp_type=kind)
    if kind == reply:
        return replace(header, destination_port=identifier, icmp_type=kind)
    if kind in ERRORS[header.protocol]:
        return read_error(icmp[8:], header, kind, hook)
    raise Unreadable(DropReason.UNKNOWN_ICMP_TYPE, kind if header.protocol == ICMP6 else 0, header.source)


def read_error(quoted: bytes, header: Header, kind: int, hook: Hook) -> Header:
    """Read what an error quotes: the packet that its receiver had sent to the answer's source."""
    asker, asked, protocol, inner = read_quoted(quoted, header.protocol == ICMP6)
    if asker != header.destination or (hook == Hook.FROM_POD and asked != header.source):
        raise Unreadable(DropReason.CT_INVALID)
    need(inner, 8)
    error = replace(header, source=asked, protocol=protocol, icmp_type=kind, is_error=True)
    if protocol in ECHOES:
        if inner[0] != ECHOES[header.protocol][0]:
            raise Unreadable(DropReason.UNKNOWN_ICMP_TYPE)
        return replace(error, destination_port=number(inner, 4, 2))
    return replace(error, source_port=number(inner, 2, 2), destination_port=number(inner, 0, 2))


def read_quoted(quoted: bytes, is_ipv6: bool) -> tuple[int, int, int, bytes]:
    """Return source, destination, protocol and payload of a quoted packet."""
    if is_ipv6:
        need(quoted, 40)
        return number(quoted, 8, 16), number(quoted, 24, 16), quoted[6], quoted[40:]
    need(quoted, 20)
    length = 4 * (quoted[0] & 15)
    if length < 20:
        raise Unreadable(DropReason.INVALID_PACKET)
    return MAPPED | number(quoted, 12, 4), MAPPED | number(quoted, 16, 4), quoted[9], quoted[length:]
