"""Ends of packets, and outcomes of packets, as the model has them."""

from dataclasses import dataclass

from cilia.abi.enums import Hook
from tests.bpf.datapath.rig import GATEWAY_MAC, TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT


@dataclass(frozen=True, slots=True)
class End:
    """Location of an address; ``ifindex`` 0: not local; ``tunnel`` 0: not on another node."""

    address: int
    identity: int
    ifindex: int = 0
    tunnel: int = 0
    slot: int = 0
    id: int = 0
    mac: bytes = bytes(6)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict; ``reason`` 0 forwards.

    ``judged`` is (direction, cookie, audited) if policy was consulted.
    """

    action: int
    frame: bytes
    reason: int = 0
    is_reported: bool = False
    ends: tuple[End, End] | None = None
    judged: tuple[int, int, bool] | None = None


def dropped(frame: bytes, reason: int) -> Outcome:
    return Outcome(TC_ACT_SHOT, frame, reason, True)


def forwarded(frame: bytes, hook: Hook, target: End) -> Outcome:
    """Into a pod with the gateway as the sender, into the tunnel unchanged, or to this host's
    stack.
    """
    if hook == Hook.TO_POD or not (target.tunnel or target.ifindex):
        return Outcome(TC_ACT_OK, frame)
    if target.tunnel:
        return Outcome(TC_ACT_REDIRECT, frame)
    return Outcome(TC_ACT_REDIRECT, target.mac + GATEWAY_MAC + frame[12:])
