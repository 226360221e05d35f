"""ARP and neighbour discovery as the model has them: the gateway is every pod's only neighbour."""

import struct
from typing import Final, Protocol

from cilia.abi.enums import DropReason, Hook
from tests.bpf.datapath.rig import GATEWAY_MAC, TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT
from tests.bpf.fuzz import parsing
from tests.bpf.fuzz.outcomes import End, Outcome, dropped
from tests.bpf.fuzz.parsing import MAPPED, Unreadable

SOLICITATION, ADVERTISEMENT = 135, 136
ND: Final = range(133, 138)
AUTOCONFIGURATION: Final = (130, 131, 132, 133, 143)


class Neighbourhood(Protocol):
    """The gateways that pods ask for, and the pods."""

    gateway: int
    gateway6: int
    pods: dict[int, End]


def control(node: Neighbourhood, frame: bytes, hook: Hook, ifindex: int, message: Unreadable) -> Outcome:
    """Answer neighbour discovery (RFC 4861) and pass over what links say when they come up."""
    kind = message.icmp_type
    if hook == Hook.TO_POD and kind in ND:
        return Outcome(TC_ACT_OK, frame)
    if kind in AUTOCONFIGURATION or (kind == SOLICITATION and not message.source):
        return Outcome(TC_ACT_SHOT, frame, DropReason.UNKNOWN_ICMP_TYPE)
    if hook == Hook.TO_POD:
        return dropped(frame, DropReason.UNKNOWN_ICMP_TYPE)
    if kind == ADVERTISEMENT:
        owner = node.pods.get(message.source)
        if owner is None or owner.ifindex != ifindex:
            return dropped(frame, DropReason.INVALID_SOURCE)
        return Outcome(TC_ACT_OK, frame)
    if kind != SOLICITATION:
        return dropped(frame, DropReason.UNKNOWN_ICMP_TYPE)
    if frame[20] != parsing.ICMP6 or len(frame) < 78:
        return dropped(frame, DropReason.INVALID_PACKET)
    if int.from_bytes(frame[62:78], "big") != node.gateway6:
        return dropped(frame, DropReason.UNKNOWN_TARGET)
    return Outcome(TC_ACT_REDIRECT, advertise(frame))


def answer(node: Neighbourhood, frame: bytes, ifindex: int) -> Outcome:
    """Answer a question for the gateway (RFC 826); let a pod's own answers pass."""
    parsing.need(frame, 42)
    operation, sender = frame[20:22], MAPPED | int.from_bytes(frame[28:32], "big")
    if frame[14:18] != b"\0\1\x08\0" or operation not in (b"\0\1", b"\0\2"):
        raise Unreadable(DropReason.INVALID_PACKET)
    if operation == b"\0\2":
        if sender not in node.pods or node.pods[sender].ifindex != ifindex:
            raise Unreadable(DropReason.INVALID_SOURCE)
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
