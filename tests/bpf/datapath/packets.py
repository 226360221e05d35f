"""Packets as scapy builds them, with every checksum right."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.bpf.datapath.rig import GATEWAY, A, Pod


def sent(source: Pod, destination: Pod, layer: Packet, **ip: object) -> bytes:
    """Return a frame from one pod to another one's address, with 10 bytes of payload."""
    frame = Ether(src=source.mac.hex(":"), dst="02:00:00:00:00:99")
    return bytes(frame / IP(src=source.ipv4, dst=destination.ipv4, **ip) / layer / Raw(b"0123456789"))


def tcp(source: Pod, destination: Pod, sport: int = 40000, dport: int = 80, flags: str = "A") -> bytes:
    return sent(source, destination, TCP(sport=sport, dport=dport, flags=flags))


def udp(source: Pod, destination: Pod, sport: int = 40000, dport: int = 53) -> bytes:
    return sent(source, destination, UDP(sport=sport, dport=dport))


def echo(source: Pod, destination: Pod, kind: int = 8, identifier: int = 77) -> bytes:
    return sent(source, destination, ICMP(type=kind, id=identifier, seq=1))


def arp(target: str = GATEWAY, operation: int = 1, sender: Pod = A) -> bytes:
    """Return a question by default, who has ``target``."""
    mac = sender.mac.hex(":")
    return bytes(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=operation, hwsrc=mac, psrc=sender.ipv4, pdst=target))


def error(source: Pod, destination: Pod, about: bytes, kind: int = 3, code: int = 3) -> bytes:
    """Return an ICMP error that quotes as much of a frame as RFC 792 demands."""
    frame = Ether(src=source.mac.hex(":"), dst="02:00:00:00:00:99")
    return bytes(frame / IP(src=source.ipv4, dst=destination.ipv4) / ICMP(type=kind, code=code) / Raw(about[14:42]))
