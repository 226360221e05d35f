"""Packets as scapy builds them, with every checksum right; the family is that of the pods'
addresses.
"""

from ipaddress import IPv6Address

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.bpf.datapath.rig import A6, GATEWAY, GATEWAY6, A, Pod

PAYLOAD = b"0123456789"
ECHO = 8
QUOTED_BYTES = {4: 28, 6: 48}
"""Bytes that an error quotes: those that RFC 792 demands, and those that are read of IPv6."""


def is_ipv6(pod: Pod) -> bool:
    return ":" in pod.address


def network(source: Pod, destination: Pod, **ip: object) -> Packet:
    """Return an IP header from one pod to another one's address."""
    kind = IPv6 if is_ipv6(source) else IP
    return kind(src=source.address, dst=destination.address, **ip)


def sent(source: Pod, destination: Pod, layer: Packet, payload: bytes = PAYLOAD, **ip: object) -> bytes:
    """Return a frame from one pod to another one's address."""
    frame = Ether(src=source.mac.hex(":"), dst="02:00:00:00:00:99")
    return bytes(frame / network(source, destination, **ip) / layer / Raw(payload))


def tcp(source: Pod, destination: Pod, sport: int = 40000, dport: int = 80, flags: str = "", **numbers: int) -> bytes:
    """Return a segment: by default what begins a connection, or from a port below 1024 its answer.

    Args:
        numbers: ``seq`` and ``ack``.
    """
    flags = flags or ("SA" if sport < 1024 <= dport else "S")
    return sent(source, destination, TCP(sport=sport, dport=dport, flags=flags, **numbers))


def udp(source: Pod, destination: Pod, sport: int = 40000, dport: int = 53) -> bytes:
    return sent(source, destination, UDP(sport=sport, dport=dport))


def echo(source: Pod, destination: Pod, kind: int = ECHO, identifier: int = 77) -> bytes:
    """Return a ping (``kind`` 8) or its answer (0)."""
    if not is_ipv6(source):
        return sent(source, destination, ICMP(type=kind, id=identifier, seq=1))
    layer = ICMPv6EchoRequest if kind == ECHO else ICMPv6EchoReply
    return sent(source, destination, layer(id=identifier, seq=1))


def arp(target: str = GATEWAY, operation: int = 1, sender: Pod = A) -> bytes:
    """Return a question by default, who has ``target``."""
    mac = sender.mac.hex(":")
    return bytes(
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=operation, hwsrc=mac, psrc=sender.address, pdst=target)
    )


def solicitation(target: str = GATEWAY6, sender: Pod = A6, *, with_mac: bool = True) -> bytes:
    """Return a neighbour solicitation (RFC 4861)."""
    mac = sender.mac.hex(":")
    last = IPv6Address(target).packed[-3:]
    frame = Ether(src=mac, dst=(b"\x33\x33\xff" + last).hex(":"))
    message = IPv6(src=sender.address, dst=target, hlim=255) / ICMPv6ND_NS(tgt=target)
    return bytes(frame / message / ICMPv6NDOptSrcLLAddr(lladdr=mac) if with_mac else frame / message)


def advertisement(sender: Pod = A6) -> bytes:
    """Return a pod's answer to the host's solicitation."""
    mac = sender.mac.hex(":")
    message = IPv6(src=sender.address, dst=GATEWAY6, hlim=255) / ICMPv6ND_NA(tgt=sender.address, R=0)
    return bytes(Ether(src=mac, dst="02:63:69:6c:69:61") / message / ICMPv6NDOptDstLLAddr(lladdr=mac))


def fit(frame: bytes) -> bytes:
    """Return a frame whose IP header gives the length that it has."""
    if frame[12:14] == b"\x86\xdd":
        return frame[:18] + (len(frame) - 54).to_bytes(2, "big") + frame[20:]
    return frame[:16] + (len(frame) - 14).to_bytes(2, "big") + frame[18:]


def error(source: Pod, destination: Pod, about: bytes, kind: int = 3, code: int = 3) -> bytes:
    """Return an ICMP error of ``kind`` (of IPv6 its own number) that quotes a frame."""
    frame = Ether(src=source.mac.hex(":"), dst="02:00:00:00:00:99")
    if not is_ipv6(source):
        quoted = about[14 : 14 + QUOTED_BYTES[4]]
        return bytes(frame / network(source, destination) / ICMP(type=kind, code=code) / Raw(quoted))
    head = bytes((kind, code)) + bytes(6)
    return bytes(frame / network(source, destination, nh=58) / Raw(head + about[14 : 14 + QUOTED_BYTES[6]]))
