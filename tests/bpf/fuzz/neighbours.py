"""ARP and neighbour discovery as the model has them: the gateway is every pod's only neighbour."""

import struct
from typing import Final, Protocol

from cilia.abi.enums import DropReason, Hook
from tests.bpf.datapath.rig import GATEWAY_MAC, TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT
from tests.bpf.fuzz import parsing
from tests.bpf.fuzz.outcomes import End, Outcome, dropped
from tests.bpf.fuzz.parsing import MAPPED, Unreadable

SOLICITATION, ADVERTISEMENT = 135, 136
ALL_NODES: Final = 0xFF02 << 112 | 1
LINK_LOCAL: Final = 0xFE80 << 112
AUTOCONFIGURATION: Final = (130, 131, 132, 133, 143)


class Neighbourhood(Protocol):
    """The gateways that pods ask for, and the pods."""

    own: frozenset[int]
    gateway: int
    gateway6: int
    pods: dict[int, End]


def control(node: Neighbourhood, frame: bytes, hook: Hook, ifindex: int, message: Unreadable) -> Outcome:
    """Answer neighbour discovery (RFC 4861) and pass over what links say when they come up."""
    kind = message.icmp_type
    is_valid = is_valid_message(frame)
    target = int.from_bytes(frame[62:78], "big") if is_valid else 0
    if hook == Hook.TO_POD and kind == SOLICITATION and message.source in node.own and is_at(node, target, ifindex):
        return Outcome(TC_ACT_OK, frame)
    if kind in AUTOCONFIGURATION or (kind == SOLICITATION and not message.source):
        return Outcome(TC_ACT_SHOT, frame, DropReason.UNKNOWN_ICMP_TYPE)
    if hook == Hook.TO_POD:
        return dropped(frame, DropReason.UNKNOWN_ICMP_TYPE)
    if kind == ADVERTISEMENT:
        return hear(node, frame, ifindex, message.source)
    if kind != SOLICITATION:
        return dropped(frame, DropReason.UNKNOWN_ICMP_TYPE)
    if not is_valid:
        return dropped(frame, DropReason.INVALID_PACKET)
    if target != node.gateway6:
        return dropped(frame, DropReason.UNKNOWN_TARGET)
    return Outcome(TC_ACT_REDIRECT, advertise(frame))


def is_valid_message(frame: bytes) -> bool:
    """Tell whether a message is as RFC 4861 (7.1) wants it, without extension headers."""
    if frame[20] != parsing.ICMP6 or len(frame) < 78:
        return False
    return frame[21] == 255 and frame[55] == 0 and int.from_bytes(frame[18:20], "big") >= 24


def is_at(node: Neighbourhood, address: int, ifindex: int) -> bool:
    return address in node.pods and node.pods[address].ifindex == ifindex


def hear(node: Neighbourhood, frame: bytes, ifindex: int, source: int) -> Outcome:
    """Let a pod tell this host its own MAC address."""
    if not is_valid_message(frame):
        return dropped(frame, DropReason.INVALID_PACKET)
    if not is_at(node, source, ifindex) or int.from_bytes(frame[62:78], "big") != source:
        return dropped(frame, DropReason.INVALID_SOURCE)
    destination = int.from_bytes(frame[38:54], "big")
    if destination not in (*node.own, ALL_NODES) and destination >> 118 != LINK_LOCAL >> 118:
        return dropped(frame, DropReason.UNKNOWN_TARGET)
    option = frame[78 : 54 + int.from_bytes(frame[18:20], "big")]
    if option and option != b"\2\1" + node.pods[source].mac:
        return dropped(frame, DropReason.INVALID_MAC)
    return Outcome(TC_ACT_OK, frame)


def answer(node: Neighbourhood, frame: bytes, ifindex: int) -> Outcome:
    """Answer a question for the gateway (RFC 826); let a pod's own answers pass."""
    parsing.need(frame, 42)
    operation, sender = frame[20:22], MAPPED | int.from_bytes(frame[28:32], "big")
    if frame[14:18] != b"\0\1\x08\0" or operation not in (b"\0\1", b"\0\2"):
        raise Unreadable(DropReason.INVALID_PACKET)
    if operation == b"\0\2":
        if not is_at(node, sender, ifindex):
            raise Unreadable(DropReason.INVALID_SOURCE)
        if frame[22:28] != node.pods[sender].mac:
            raise Unreadable(DropReason.INVALID_MAC)
        return Outcome(TC_ACT_OK, frame)
    if MAPPED | int.from_bytes(frame[38:42], "big") != node.gateway:
        raise Unreadable(DropReason.UNKNOWN_TARGET)
    asker, reply = frame[22:28], frame[12:20] + b"\0\2" + GATEWAY_MAC + frame[38:42]
    answer = asker + GATEWAY_MAC + reply + asker + frame[28:32] + frame[42:]
    return Outcome(TC_ACT_REDIRECT, answer)


def advertise(frame: bytes) -> bytes:
    """Return the gateway's answer to a solicitation."""
    asker, address, target = frame[6:12], frame[22:38], frame[62:78]
    message: bytes = bytes((ADVERTISEMENT, frame[55])) + bytes(2) + b"\xe0\0\0\0" + target + b"\2\1" + GATEWAY_MAC
    pseudo = target + address + struct.pack(">II", len(message), parsing.ICMP6) + message
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + (total ^ 0xFFFF).to_bytes(2, "big") + message[4:]
    head = frame[12:18] + len(message).to_bytes(2, "big") + frame[20:21] + b"\xff"
    return asker + GATEWAY_MAC + head + target + address + message
