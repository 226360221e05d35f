"""Random frames: conversations between known addresses, and what broken and hostile senders make of them."""

import struct
from ipaddress import IPv4Address
from random import Random

from tests.bpf.datapath.rig import GATEWAY
from tests.bpf.fuzz.worlds import ADDRESSES, PODS, PROTOCOLS

HIGH, LOW = (40000, 40001), (53, 80)
SHORTEST = {b"\x08\0": 34, b"\x86\xdd": 54}
"""Bytes below which BPF_PROG_TEST_RUN refuses a frame, by EtherType; of another it wants 15."""
FLAGS = (0x02, 0x02, 0x02, 0x12, 0x10, 0x18, 0x11, 0x11, 0x04, 0x14, 0xFF, 0)


def ipv4(source: str, destination: str, protocol: int, payload: bytes, options: int = 0, fragment: int = 0) -> bytes:
    """Return an IPv4 packet (RFC 791); its checksum is left 0, which no program looks at."""
    words = 5 + options
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), 7, fragment, 64, protocol, 0)
    return head + ends + bytes(4 * options) + payload


def segment(pick: Random, protocol: int, *, is_reply: bool) -> bytes:
    """Return a TCP segment, a UDP datagram or an ICMP echo."""
    if protocol == 1:
        return struct.pack(">BBHHH", 0 if is_reply else 8, 0, 0, pick.choice((7, 8)), 1) + bytes(4)
    ports = (pick.choice(LOW), pick.choice(HIGH)) if is_reply else (pick.choice(HIGH), pick.choice(LOW))
    if protocol == 17:
        return struct.pack(">HHHH", *ports, 12, 0) + bytes(4)
    return struct.pack(">HHIIBBHHH", *ports, 1, 1, 0x50, pick.choice(FLAGS), 512, 0, 0) + bytes(4)


def conversation(pick: Random, source: str, destination: str) -> bytes:
    """Return a whole IPv4 packet, mostly an unremarkable one."""
    protocol = pick.choice(PROTOCOLS)
    payload = segment(pick, protocol, is_reply=pick.random() < 0.4)
    options = pick.choice((0, 0, 0, 0, 1, 10))
    fragment = pick.choice((0x2000, 1, 0x2001, 0x8000)) if pick.random() < 0.02 else 0x4000
    return ipv4(
        source, destination, protocol if pick.random() < 0.98 else pick.randrange(256), payload, options, fragment
    )


def error(pick: Random, source: str, destination: str) -> bytes:
    """Return an ICMP error, mostly about what the receiver had sent to the sender."""
    asked = source if pick.random() < 0.8 else pick.choice(ADDRESSES)
    asker = destination if pick.random() < 0.9 else pick.choice(ADDRESSES)
    quoted = conversation(pick, asker, asked)
    kind = pick.choice((3, 3, 11, 12, 5, 13, pick.randrange(256)))
    return ipv4(
        source, destination, 1, struct.pack(">BBHI", kind, pick.randrange(6), 0, 0) + quoted[: 4 * (quoted[0] & 15) + 8]
    )


def arp(pick: Random) -> bytes:
    sender, target = pick.choice(PODS), pick.choice((GATEWAY, pick.choice(ADDRESSES)))
    head = b"\0\1\x08\0\6\4" + pick.choice((b"\0\1", b"\0\1", b"\0\2", b"\0\3"))
    return head + sender.mac + IPv4Address(sender.ipv4).packed + bytes(6) + IPv4Address(target).packed


def sent(pick: Random, near: str) -> bytes:
    """Return a frame that the pod with address ``near`` sends, or pretends to."""
    source = near if pick.random() < 0.93 else pick.choice(ADDRESSES)
    return between(pick, source, pick.choice(ADDRESSES))


def between(pick: Random, source: str, destination: str) -> bytes:
    ethernet, kind = pick.randbytes(12), pick.random()
    if kind < 0.05:
        return ethernet + b"\x08\x06" + arp(pick)
    made = error if kind < 0.15 else conversation
    return ethernet + b"\x08\0" + made(pick, source, destination)


def broken(pick: Random, whole: bytes) -> bytes:
    """Return a frame that was cut, overwritten, prolonged or made up; at most 200 bytes."""
    made = bytearray(whole)
    for _ in range(pick.randrange(1, 4)):
        match pick.randrange(6):
            case 0:
                del made[pick.randrange(15, len(made) + 1) :]
            case 1:
                made[pick.randrange(len(made))] = pick.randrange(256)
            case 2:
                made[pick.randrange(14, min(len(made), 64))] ^= 1 << pick.randrange(8)
            case 3:
                made[14] = pick.choice((0x40, 0x41, 0x44, 0x45, 0x46, 0x4F, 0x55, 0x65))
            case 4:
                made += pick.randbytes(pick.randrange(30))
            case 5 if pick.random() < 0.1:
                made[14:] = pick.randbytes(pick.randrange(1, 80))
    missing = SHORTEST.get(bytes(made[12:14]), 15) - len(made)
    return bytes(made[:200]) + pick.randbytes(max(0, missing))
