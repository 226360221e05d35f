"""Denials: a packet is dropped again without asking policy, until something changes."""

import os
from collections.abc import Callable, Iterator

import pytest

from cilia.abi.enums import ChangePart, DropReason, Hook
from tests.bpf.datapath.packets import echo, tcp, udp
from tests.bpf.datapath.rig import A6, B6, EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, Pod
from tests.bpf.datapath.test_revocation import key

FAMILIES = [pytest.param((A, B), id="IPv4"), pytest.param((A6, B6), id="IPv6")]
KINDS = pytest.mark.parametrize("make", [tcp, udp, echo], ids=["tcp", "udp", "echo"])


@pytest.fixture(autouse=True)
def one_cpu() -> Iterator[None]:
    """Stay on one CPU: each has memories of its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def open_unseen(here: Node) -> None:
    """Allow A to reach B without a word that something changed, so that only who asks policy sees
    it.
    """
    before = here.change.load_u32(0)
    here.allow(A, EGRESS)
    here.allow(B, INGRESS)
    here.change.store_u32(0, before)


def reason_of(here: Node, packet: bytes, device: str = "lxc1") -> int:
    """Return for what a packet of a pod is dropped; 0: it passes."""
    while here.events():
        pass
    ran = here.run("from_pod", packet, device)
    (event,) = here.events()
    assert ran.retval == (TC_ACT_SHOT if event.reason else TC_ACT_REDIRECT)
    return event.reason


@KINDS
@pytest.mark.parametrize("ends", FAMILIES)
def test_a_denial_is_repeated_without_policy_until_something_changes(
    here: Node, ends: tuple[Pod, Pod], make: Callable[..., bytes]
) -> None:
    packet = make(*ends)
    assert reason_of(here, packet) == DropReason.POLICY_DENIED
    open_unseen(here)
    assert reason_of(here, packet) == DropReason.POLICY_DENIED
    here.note_change()
    assert reason_of(here, packet) == 0


def test_a_repeated_denial_is_counted_and_reported_as_the_first(here: Node) -> None:
    here.allow(A, EGRESS)
    here.allow(B, INGRESS, A.identity, deny=True, cookie=9)
    before = here.counted(DropReason.DENIED_BY_RULE, Hook.FROM_POD)
    here.run("from_pod", tcp(A, B), "lxc1", repeat=3)
    first, *others = here.events()
    assert here.counted(DropReason.DENIED_BY_RULE, Hook.FROM_POD) == before + 3
    assert (first.direction, first.cookie, first.endpoint) == (INGRESS, 9, (A.id, B.id))
    assert [other._replace(time_ns=0) for other in others] == [first._replace(time_ns=0)] * 2


def test_a_flood_from_many_ports_meets_one_memory(here: Node) -> None:
    reason_of(here, udp(A, B, 40000))
    open_unseen(here)
    assert [reason_of(here, udp(A, B, port)) for port in range(1, 50)] == [DropReason.POLICY_DENIED] * 49


@pytest.mark.parametrize(
    ("packet", "device"),
    [(udp(A, B, dport=54), "lxc1"), (tcp(A, B, dport=53), "lxc1"), (udp(B, A), "lxc2"), (udp(A6, B6), "lxc1")],
    ids=["port", "protocol", "direction", "family"],
)
def test_a_denial_is_of_what_was_denied_alone(here: Node, packet: bytes, device: str) -> None:
    reason_of(here, udp(A, B))
    open_unseen(here)
    here.allow(B, EGRESS)
    here.allow(A, INGRESS)
    here.change.store_u32(0, here.change.load_u32(0) - 2 * ChangePart.DONE)
    assert reason_of(here, packet, device) == 0
    assert reason_of(here, udp(A, B)) == DropReason.POLICY_DENIED


def test_whoever_pretends_to_be_a_denied_pod_is_told_apart(here: Node) -> None:
    reason_of(here, udp(A, B))
    assert reason_of(here, udp(A, B), "lxc2") == DropReason.INVALID_SOURCE
    assert reason_of(here, udp(A._replace(mac=B.mac), B)) == DropReason.INVALID_MAC
    assert reason_of(here, udp(A, B)) == DropReason.POLICY_DENIED


def test_a_denial_stands_in_no_flows_way(here: Node) -> None:
    here.allow(B, EGRESS)
    here.allow(A, INGRESS)
    assert reason_of(here, udp(A, B, 53, 40000)) == DropReason.POLICY_DENIED
    assert reason_of(here, udp(B, A, 40000, 53), "lxc2") == 0
    assert here.run("from_pod", udp(A, B, 53, 40000), "lxc1").retval == TC_ACT_REDIRECT


def test_denials_take_no_room_from_flows(here: Node) -> None:
    for port in range(1, 60):
        here.run("from_pod", udp(A, B, dport=port), "lxc1")
    assert not here.flows.items()


def test_a_revoked_rule_is_asked_about_before_it_is_remembered(here: Node) -> None:
    open_unseen(here)
    assert reason_of(here, udp(A, B)) == 0
    here.policy.delete(key(A, EGRESS))
    here.note_change()
    assert reason_of(here, udp(A, B, 40001)) == DropReason.POLICY_DENIED
