"""Packets of the host itself to pods of other nodes, by the tunnel's device."""

import pytest

from cilia.abi.enums import DropReason, Hook
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import (
    A6,
    GATEWAY,
    GATEWAY6,
    HOST,
    NODE,
    NODE6,
    R6,
    TC_ACT_OK,
    TC_ACT_SHOT,
    W6,
    A,
    Node,
    Pod,
    R,
    W,
)

OWN = [(Pod(NODE, HOST), R), (Pod(GATEWAY, HOST), R), (Pod(NODE6, HOST), R6), (Pod(GATEWAY6, HOST), R6)]


@pytest.mark.parametrize(("source", "target"), OWN, ids=["node", "gateway", "node, IPv6", "gateway, IPv6"])
def test_the_host_reaches_a_pod_of_another_node(here: Node, source: Pod, target: Pod) -> None:
    before = here.counted(0, Hook.TO_OVERLAY)
    frame = tcp(source, target)
    ran = here.run("to_overlay", frame, "overlay")
    assert (ran.retval, ran.packet) == (TC_ACT_OK, frame)
    assert here.counted(0, Hook.TO_OVERLAY) == before + 1
    assert here.events() == []


STRAYS = {
    "a pod's packet": (tcp(A, R), DropReason.INVALID_SOURCE),
    "a pod's packet of IPv6": (tcp(A6, R6), DropReason.INVALID_SOURCE),
    "the world's packet": (tcp(W, R), DropReason.INVALID_SOURCE),
    "to nobody's address": (tcp(Pod(GATEWAY, HOST), W), DropReason.NO_ENDPOINT),
    "to nobody's address of IPv6": (tcp(Pod(GATEWAY6, HOST), W6), DropReason.NO_ENDPOINT),
}


@pytest.mark.parametrize(("packet", "reason"), STRAYS.values(), ids=STRAYS)
def test_nothing_else_gets_into_the_tunnel(here: Node, packet: bytes, reason: int) -> None:
    assert here.run("to_overlay", packet, "overlay").retval == TC_ACT_SHOT
    (event,) = here.events()
    assert event.reason == reason
