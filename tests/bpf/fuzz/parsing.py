"""The model's reading of a frame: what bpf/lib/packet.h and arp.h should make of any bytes.

Written from the RFCs and the remarks in the headers, on bytes with an end, without sight of the C's steps.
"""

from dataclasses import dataclass
from typing import Final

from cilia.abi.enums import DropReason, Hook

ETHERNET_BYTES: Final = 14
IPV4, ARP = 0x0800, 0x0806
ICMP, TCP, UDP = 1, 6, 17
ECHO_REPLY, ECHO = 0, 8
ERRORS: Final = (3, 11, 12)
MORE_FRAGMENTS_OR_OFFSET: Final = 0x3FFF


class Unreadable(Exception):
    """The frame has to be dropped for ``reason``."""

    def __init__(self, reason: int) -> None:
        super().__init__(DropReason(reason).name)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """The end points of a packet; addresses and ports in host order.

    An ICMP error has those of an answer in the flow that it is about.
    """

    source: int
    destination: int
    protocol: int
    source_port: int
    destination_port: int
    tcp_flags: int = 0
    icmp_type: int = 0
    is_error: bool = False


def number(data: bytes, offset: int, size: int) -> int:
    """Read a number in network order.

    Raises:
        Unreadable: The data ends before.
    """
    if offset + size > len(data):
        raise Unreadable(DropReason.INVALID_PACKET)
    return int.from_bytes(data[offset : offset + size], "big")


def ethertype(frame: bytes) -> int:
    return number(frame, 12, 2)


def read(frame: bytes, hook: Hook) -> Header:
    """Read a frame.

    Raises:
        Unreadable: It isn't a whole IPv4 packet of a known kind.
    """
    if ethertype(frame) != IPV4:
        raise Unreadable(DropReason.UNKNOWN_L3)
    ip = frame[ETHERNET_BYTES:]
    need(ip, 20)
    length = 4 * (ip[0] & 15)
    if ip[0] >> 4 != 4 or length < 20:
        raise Unreadable(DropReason.INVALID_PACKET)
    if number(ip, 6, 2) & MORE_FRAGMENTS_OR_OFFSET:
        raise Unreadable(DropReason.FRAGMENT)
    payload, ends = ip[length:], (number(ip, 12, 4), number(ip, 16, 4))
    match ip[9]:
        case 1:
            return read_icmp(payload, *ends, hook)
        case 6:
            need(payload, 20)
            return Header(*ends, TCP, number(payload, 0, 2), number(payload, 2, 2), tcp_flags=payload[13])
        case 17:
            need(payload, 8)
            return Header(*ends, UDP, number(payload, 0, 2), number(payload, 2, 2))
    raise Unreadable(DropReason.UNKNOWN_L4)


def need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise Unreadable(DropReason.INVALID_PACKET)


def read_icmp(icmp: bytes, source: int, destination: int, hook: Hook) -> Header:
    need(icmp, 8)
    kind, identifier = icmp[0], number(icmp, 4, 2)
    if kind == ECHO:
        return Header(source, destination, ICMP, identifier, 0, icmp_type=kind)
    if kind == ECHO_REPLY:
        return Header(source, destination, ICMP, 0, identifier, icmp_type=kind)
    if kind in ERRORS:
        return read_error(icmp[8:], source, destination, hook, kind)
    raise Unreadable(DropReason.UNKNOWN_ICMP_TYPE)


def read_error(quoted: bytes, source: int, destination: int, hook: Hook, kind: int) -> Header:
    """Read what an error quotes: the packet that ``destination`` had sent to the answer's source."""
    need(quoted, 20)
    length, protocol = 4 * (quoted[0] & 15), quoted[9]
    if length < 20:
        raise Unreadable(DropReason.INVALID_PACKET)
    asked, asker = number(quoted, 16, 4), number(quoted, 12, 4)
    if asker != destination or (hook == Hook.FROM_POD and asked != source):
        raise Unreadable(DropReason.CT_INVALID)
    inner = quoted[length:]
    need(inner, 8)
    if protocol == ICMP:
        if inner[0] != ECHO:
            raise Unreadable(DropReason.UNKNOWN_ICMP_TYPE)
        ports = 0, number(inner, 4, 2)
    else:
        ports = number(inner, 2, 2), number(inner, 0, 2)
    return Header(asked, destination, protocol, *ports, icmp_type=kind, is_error=True)
