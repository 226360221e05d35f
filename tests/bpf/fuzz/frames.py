"""Random frames: conversations between known addresses, and what broken and hostile senders make of
them.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import Final

from tests.bpf.datapath.rig import GATEWAY, GATEWAY6, Pod
from tests.bpf.fuzz.worlds import ADDRESSES, ADDRESSES6, PODS, PODS6, PROTOCOLS, PROTOCOLS6

HIGH, LOW = (40000, 40001), (53, 80)
SHORTEST = {b"\x08\0": 34, b"\x86\xdd": 54}
"""Bytes below which BPF_PROG_TEST_RUN refuses a frame, by EtherType; of another it wants 15."""
FLAGS = (0x02, 0x02, 0x02, 0x12, 0x10, 0x18, 0x11, 0x11, 0x04, 0x14, 0xFF, 0)
NUMBERS: Final = (1, 1, 1, 1, 65536, 65537, 65538, 0xFFFF_0001, 0xFFFF_0000, 1 << 31)
"""Sequence numbers, about what lies within 64 KiB of each other and what doesn't."""
EXTENSIONS: Final = (0, 43, 60)
FRAGMENT: Final = 44
TCP, UDP, TUNNEL_PORT = 6, 17, 8472


@dataclass(frozen=True)
class Speech:
    """Frames that hosts of one family send."""

    ethertype: bytes
    pods: tuple[Pod, ...]
    addresses: tuple[str, ...]
    protocols: tuple[int, ...]
    echo: int
    reply: int
    errors: tuple[int, ...]
    packet: Callable[[Random, str, str, int, bytes], bytes]
    """Wraps a payload; sometimes with options or as a fragment."""
    neighbour: Callable[[Random], bytes]
    """Returns an ARP packet or a message of neighbour discovery."""


def ipv4(pick: Random, source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet (RFC 791); its checksum is left 0, which no program looks at."""
    words = 5 + pick.choice((0, 0, 0, 0, 1, 10))
    fragment = pick.choice((0x2000, 0x2000, 1, 2, 3, 0x2003, 0x8000)) if pick.random() < 0.05 else 0x4000
    identifier = pick.choice((7, 8))
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), identifier, fragment, 64, protocol, 0)
    return head + ends + bytes(4 * words - 20) + payload


def ipv6(pick: Random, source: str, destination: str, protocol: int, payload: bytes, hops: int = 64) -> bytes:
    """Return an IPv6 packet (RFC 8200), sometimes with extension headers."""
    for _ in range(pick.choice((0, 0, 0, 0, 0, 0, 1, 2, 4, 5))):
        if pick.random() < 0.5:
            fragment = pick.choice((0, 1, 1, 8, 16, 24, 25))
            payload = struct.pack(">BBHI", protocol, 0, fragment, pick.choice((7, 8))) + payload
            protocol = FRAGMENT
        else:
            more = pick.choice((0, 0, 1, 3))
            payload = bytes((protocol, more)) + bytes(6 + 8 * more) + payload
            protocol = pick.choice(EXTENSIONS)
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def segment(pick: Random, speech: Speech, protocol: int, *, is_reply: bool) -> bytes:
    """Return a TCP segment, a UDP datagram or an echo."""
    if protocol not in (TCP, UDP):
        kind = speech.reply if is_reply else speech.echo
        return struct.pack(">BBHHH", kind, 0, 0, pick.choice((0, 7, 8)), 1) + bytes(4)
    ports = (pick.choice(LOW), pick.choice(HIGH)) if is_reply else (pick.choice(HIGH), pick.choice((*LOW, TUNNEL_PORT)))
    if protocol == UDP:
        return struct.pack(">HHHH", *ports, 12, 0) + bytes(4)
    numbers = pick.choice(NUMBERS), pick.choice(NUMBERS)
    return struct.pack(">HHIIBBHHH", *ports, *numbers, 0x50, pick.choice(FLAGS), 512, 0, 0) + bytes(4)


def conversation(pick: Random, speech: Speech, source: str, destination: str) -> bytes:
    """Return a whole packet, mostly an unremarkable one."""
    protocol = pick.choice(speech.protocols)
    payload = segment(pick, speech, protocol, is_reply=pick.random() < 0.4)
    protocol = protocol if pick.random() < 0.98 else pick.randrange(256)
    return speech.packet(pick, source, destination, protocol, payload)


def error(pick: Random, speech: Speech, source: str, destination: str) -> bytes:
    """Return an ICMP error, mostly about what the receiver had sent to the sender."""
    asked = source if pick.random() < 0.8 else pick.choice(speech.addresses)
    asker = destination if pick.random() < 0.9 else pick.choice(speech.addresses)
    quoted = conversation(pick, speech, asker, asked)
    kind = pick.choice((*speech.errors, 5, 13, pick.randrange(256)))
    head = struct.pack(">BBHI", kind, pick.randrange(6), 0, 0)
    header = 40 if speech.ethertype == b"\x86\xdd" else 4 * (quoted[0] & 15)
    return speech.packet(pick, source, destination, speech.protocols[0], head + quoted[: header + 8])


def arp(pick: Random) -> bytes:
    sender, target = pick.choice(PODS), pick.choice((GATEWAY, pick.choice(ADDRESSES)))
    head = b"\0\1\x08\0\6\4" + pick.choice((b"\0\1", b"\0\1", b"\0\2", b"\0\3"))
    return head + sender.mac + IPv4Address(sender.address).packed + bytes(6) + IPv4Address(target).packed


def discovery(pick: Random) -> bytes:
    """Return a message of neighbour discovery, or of what else is said about links."""
    sender, target = pick.choice((*(pod.address for pod in PODS6), "::")), pick.choice((GATEWAY6, *ADDRESSES6))
    kind = pick.choice((135, 135, 135, 136, 133, 134, 137, 143, 130))
    mac = pick.choice(PODS6).mac
    option = pick.choice((b"", b"\1\1" + bytes(6), b"\2\1" + mac, b"\2\1" + mac))
    asked = pick.choice((target, sender))
    message = bytes((kind, 0, 0, 0, 0, 0, 0, 0)) + ip_address(asked).packed + option
    return ipv6(pick, sender, target, 58, message, pick.choice((255, 255, 255, 64)))


SPEECH4: Final = Speech(b"\x08\0", PODS, ADDRESSES, PROTOCOLS, 8, 0, (3, 3, 11, 12), ipv4, arp)
SPEECH6: Final = Speech(b"\x86\xdd", PODS6, ADDRESSES6, PROTOCOLS6, 128, 129, (1, 2, 3, 4), ipv6, discovery)


def sent(pick: Random, speech: Speech, pod: Pod) -> bytes:
    """Return a frame that a pod sends, or something that pretends to be it."""
    source = pod.address if pick.random() < 0.93 else pick.choice(speech.addresses)
    mac = pod.mac if pick.random() < 0.97 else pick.randbytes(6)
    return pick.randbytes(6) + mac + between(pick, speech, source, pick.choice(speech.addresses))


def received(pick: Random, speech: Speech, pod: Pod) -> bytes:
    """Return a frame that this host's stack sends to a pod."""
    return pick.randbytes(12) + between(pick, speech, pick.choice(speech.addresses), pod.address)


def between(pick: Random, speech: Speech, source: str, destination: str) -> bytes:
    kind = pick.random()
    if kind < 0.05:
        return (b"\x08\x06" if speech is SPEECH4 else speech.ethertype) + speech.neighbour(pick)
    made = error if kind < 0.15 else conversation
    return speech.ethertype + made(pick, speech, source, destination)


def broken(pick: Random, whole: bytes) -> bytes:
    """Return a frame that was cut, overwritten, prolonged or made up; at most 300 bytes."""
    made = bytearray(whole)
    for _ in range(pick.randrange(1, 4)):
        match pick.randrange(6):
            case 0:
                del made[pick.randrange(15, len(made) + 1) :]
            case 1:
                made[pick.randrange(len(made))] = pick.randrange(256)
            case 2:
                made[pick.randrange(14, min(len(made), 84))] ^= 1 << pick.randrange(8)
            case 3:
                made[14] = pick.choice((0x40, 0x41, 0x44, 0x45, 0x46, 0x4F, 0x55, 0x65, 0x60, 0x6F))
            case 4:
                made += pick.randbytes(pick.randrange(30))
            case 5 if pick.random() < 0.1:
                made[14:] = pick.randbytes(pick.randrange(1, 80))
    missing = SHORTEST.get(bytes(made[12:14]), 15) - len(made)
    return bytes(made[:300]) + pick.randbytes(max(0, missing))
