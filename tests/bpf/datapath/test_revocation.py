"""A flow that is denied keeps its initiator: nothing that its responder sends frees it, and it goes
on once it is allowed again.
"""

from collections.abc import Callable

import pytest

from cilia.abi.enums import CtState, DropReason
from cilia.abi.structs import EndpointKey, PolicyKey
from tests.bpf.datapath.packets import echo, error, tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    INGRESS,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    A,
    B,
    Node,
    Pod,
    mapped,
)

Packets = tuple[bytes, bytes]
"""Packet of the client, and one of the server."""

FAMILIES = [pytest.param((A, B), id="IPv4"), pytest.param((A6, B6), id="IPv6")]


def segments(client: Pod, server: Pod) -> Packets:
    return tcp(client, server, flags="A"), tcp(server, client, 80, 40000, flags="PA")


def datagrams(client: Pod, server: Pod) -> Packets:
    return udp(client, server), udp(server, client, 53, 40000)


def echoes(client: Pod, server: Pod) -> Packets:
    return echo(client, server), echo(server, client, kind=0)


KINDS = [segments, datagrams, echoes]


def allow_client(here: Node) -> None:
    here.allow(A, EGRESS)
    here.allow(B, INGRESS, A.identity)


def allow_server(here: Node) -> None:
    """Let the server begin anything of its own towards the client."""
    here.allow(B, EGRESS)
    here.allow(A, INGRESS)


def establish(here: Node, ends: tuple[Pod, Pod], packets: Packets) -> None:
    allow_client(here)
    allow_server(here)
    first = tcp(*ends) if packets == segments(*ends) else packets[0]
    assert here.run("from_pod", first, "lxc1").retval == TC_ACT_REDIRECT
    for _ in range(2):
        assert passes(here, packets) == (True, True)
    while here.events():
        pass


def passes(here: Node, packets: Packets) -> tuple[bool, bool]:
    """Tell whether a packet of the server passes, and then one of the client."""
    server = here.run("from_pod", packets[1], "lxc2").retval == TC_ACT_REDIRECT
    return here.run("from_pod", packets[0], "lxc1").retval == TC_ACT_REDIRECT, server


def key(pod: Pod, direction: int, identity: int = 0) -> PolicyKey:
    return PolicyKey(pod.slot, 0, direction, identity, 0, 0, 0)


def allow_ingress(here: Node) -> None:
    here.allow(B, INGRESS, A.identity)
    here.realise(B.slot, 3)


def close_ingress(here: Node) -> Callable[[], None]:
    here.policy.delete(key(B, INGRESS, A.identity))
    here.realise(B.slot, 2)
    return lambda: allow_ingress(here)


def close_egress(here: Node) -> Callable[[], None]:
    here.policy.delete(key(A, EGRESS))
    here.realise(A.slot, 2)

    def back() -> None:
        here.allow(A, EGRESS)
        here.realise(A.slot, 3)

    return back


def deny_by_rule(here: Node) -> Callable[[], None]:
    here.allow(B, INGRESS, A.identity, deny=True)
    here.realise(B.slot, 2)
    return lambda: allow_ingress(here)


def switch_set(here: Node) -> Callable[[], None]:
    here.allow(B, EGRESS, entry_set=1)
    here.realise(B.slot, 2, entry_set=1)
    return lambda: here.realise(B.slot, 3)


def switch_by_epoch(here: Node) -> Callable[[], None]:
    here.allow(B, EGRESS, entry_set=1)
    here.allow(A, INGRESS, entry_set=1)
    for pod in (A, B):
        here.prepare(pod.slot, 5, epoch=3, entry_set=1)
    here.switch(3)

    def back() -> None:
        for pod in (A, B):
            here.slots.store_u32(pod.slot, 0, 16)
            here.realise(pod.slot, 6)
        here.epoch.store_u32(0, 0)

    return back


def relabel(here: Node) -> Callable[[], None]:
    def become(identity: int) -> None:
        for pod in (A, A6):
            here.add_pod(pod._replace(identity=identity))
            here.renew(pod.address)

    become(1007)
    return lambda: become(A.identity)


def move_to_another_slot(here: Node) -> Callable[[], None]:
    def move(slot: int) -> None:
        for pod in (B, B6):
            here.add_pod(pod, slot)
            here.renew(pod.address)

    here.realise(3)
    here.allow(B._replace(slot=3), EGRESS)
    move(3)
    return lambda: move(B.slot)


def withdraw(here: Node) -> Callable[[], None]:
    here.realise(B.slot, 0)
    return lambda: here.realise(B.slot, 2)


def end_audit(here: Node) -> Callable[[], None]:
    here.policy.delete(key(B, INGRESS, A.identity))
    here.realise(B.slot, 2, audit=True)
    allow_server(here)
    here.realise(B.slot, 3)
    return lambda: here.realise(B.slot, 4, audit=True)


def forget_endpoint(here: Node) -> Callable[[], None]:
    for pod in (A, A6):
        here.endpoints.delete(EndpointKey(mapped(pod.address)))
        here.renew(pod.address)

    def back() -> None:
        for pod in (A, A6):
            here.add_pod(pod)
            here.renew(pod.address)

    return back


WAYS = [
    close_ingress,
    close_egress,
    deny_by_rule,
    switch_set,
    switch_by_epoch,
    relabel,
    move_to_another_slot,
    withdraw,
    end_audit,
    forget_endpoint,
]


@pytest.mark.parametrize("revoke", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", FAMILIES)
def test_a_revoked_flow_stays_denied_whatever_its_server_sends_and_goes_on_when_allowed_again(
    here: Node,
    ends: tuple[Pod, Pod],
    kind: Callable[[Pod, Pod], Packets],
    revoke: Callable[[Node], Callable[[], None]],
) -> None:
    packets = kind(*ends)
    establish(here, ends, packets)
    allow_again = revoke(here)
    for _ in range(3):
        assert passes(here, packets) == (False, False)
    allow_again()
    assert passes(here, packets) == (True, True)


def test_a_denied_flow_remembers_who_began_it_and_why_it_is_denied(here: Node) -> None:
    packets = segments(A, B)
    establish(here, (A, B), packets)
    deny_by_rule(here)
    assert passes(here, packets) == (False, False)
    _, entry = here.flow()
    assert entry.state & CtState.DENIED
    assert (entry.initiator, entry.reason, entry.direction, entry.cookie) == (0, DropReason.DENIED_BY_RULE, INGRESS, 7)
    events = here.events()
    assert [event.reason for event in events] == [DropReason.DENIED_BY_RULE] * 2
    assert [(event.direction, event.cookie, event.is_reply) for event in events] == [(INGRESS, 7, 1), (INGRESS, 7, 0)]


def test_a_rule_that_is_added_in_place_opens_a_denied_flow(here: Node) -> None:
    packets = segments(A, B)
    establish(here, (A, B), packets)
    close_ingress(here)
    assert passes(here, packets) == (False, False)
    here.allow(B, INGRESS, A.identity)  # its revision stays, as the agent leaves it for what is only added
    assert passes(here, packets) == (True, True)


@pytest.mark.parametrize("flags", ["S", "SA", "A", "PA", "FA", "R", "RA"])
def test_no_segment_of_the_server_frees_a_denied_connection(here: Node, flags: str) -> None:
    packets = segments(A, B)
    establish(here, (A, B), packets)
    close_ingress(here)
    here.run("from_pod", packets[1], "lxc2")
    assert here.run("from_pod", tcp(B, A, 80, 40000, flags=flags, seq=9, ack=9), "lxc2").retval == TC_ACT_SHOT
    assert here.run("from_pod", packets[0], "lxc1").retval == TC_ACT_SHOT


def test_an_error_about_a_denied_flow_is_dropped_with_it(here: Node) -> None:
    packets = segments(A, B)
    establish(here, (A, B), packets)
    close_ingress(here)
    assert passes(here, packets) == (False, False)
    assert here.run("from_pod", error(B, A, packets[0]), "lxc2").retval == TC_ACT_SHOT


def test_a_server_may_begin_a_connection_of_its_own_where_its_clients_was(here: Node) -> None:
    establish(here, (A, B), segments(A, B))
    assert here.run("from_pod", tcp(B, A, 80, 40000, flags="S"), "lxc2").retval == TC_ACT_REDIRECT
    assert here.flow()[1].initiator == 1


def test_a_syn_of_the_server_needs_a_policy_of_its_own_and_leaves_the_clients_connection_alone(here: Node) -> None:
    allow_client(here)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    assert here.run("from_pod", tcp(B, A, 80, 40000, flags="S"), "lxc2").retval == TC_ACT_SHOT
    assert passes(here, segments(A, B)) == (True, True)
