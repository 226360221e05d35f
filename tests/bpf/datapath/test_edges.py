"""Packets between pods and all that isn't a pod of this node: other nodes, this host, the world."""

import pytest

from cilia.abi.enums import DropReason, Hook
from tests.bpf.datapath.packets import arp, echo, error, tcp
from tests.bpf.datapath.rig import (
    EGRESS,
    GATEWAY,
    HOST,
    INGRESS,
    NODE,
    OTHER_NODE,
    TC_ACT_OK,
    TC_ACT_REDIRECT,
    TC_ACT_SHOT,
    WORLD,
    A,
    B,
    Node,
    Pod,
    R,
    W,
    node,
    populate,
)

THIS_NODE, ITS_GATEWAY = Pod(NODE, HOST), Pod(GATEWAY, HOST)


def reason_of(here: Node, program: str, packet: bytes, device: str) -> int:
    """Return why a packet is dropped."""
    assert here.run(program, packet, device).retval == TC_ACT_SHOT
    (event,) = here.events()
    return event.reason


def test_a_pod_of_another_node_is_reached_through_the_overlay(here: Node) -> None:
    here.allow(A, EGRESS, R.identity, 6, 80)
    ran = here.run("from_pod", tcp(A, R), "lxc1")
    entry = here.flow()[1]
    assert (ran.retval, ran.packet) == (TC_ACT_REDIRECT, tcp(A, R))
    assert entry.side[0].tunnel == int.from_bytes(bytes(map(int, OTHER_NODE.split("."))), "big")
    assert entry.side[1].source_ifindex == here.devices["overlay"]
    assert here.events()[0].identity == (A.identity, R.identity)


def test_a_pod_of_another_node_is_refused_by_egress_policy(here: Node) -> None:
    assert reason_of(here, "from_pod", tcp(A, R), "lxc1") == DropReason.POLICY_DENIED


@pytest.mark.parametrize("target", [THIS_NODE, ITS_GATEWAY, W], ids=["node", "gateway", "world"])
def test_the_host_and_the_world_are_reached_through_the_stack_if_policy_allows_it(here: Node, target: Pod) -> None:
    assert reason_of(here, "from_pod", tcp(A, target), "lxc1") == DropReason.POLICY_DENIED
    here.allow(A, EGRESS, target.identity, 6, 80)
    assert here.run("from_pod", tcp(A, target), "lxc1").retval == TC_ACT_OK
    assert here.events()[0].identity == (A.identity, target.identity)


@pytest.mark.parametrize("target", [THIS_NODE, W], ids=["node", "world"])
def test_answers_from_the_stack_need_no_policy(here: Node, target: Pod) -> None:
    here.allow(A, EGRESS, target.identity)
    for there, back in ((tcp(A, target), tcp(target, A, 80, 40000)), (echo(A, target), echo(target, A, kind=0))):
        here.run("from_pod", there, "lxc1")
        here.events()
        assert here.run("to_pod", back, "lxc1").retval == TC_ACT_OK
        assert here.events() == []


def test_a_router_on_the_way_to_the_world_can_say_that_a_packet_was_too_big(here: Node) -> None:
    here.allow(A, EGRESS, WORLD)
    here.run("from_pod", tcp(A, W), "lxc1")
    router = Pod("203.0.113.9", WORLD)
    assert here.run("to_pod", error(router, A, tcp(A, W), code=4), "lxc1").retval == TC_ACT_OK


@pytest.mark.parametrize("source", [THIS_NODE, W], ids=["node", "world"])
def test_what_the_stack_sends_to_a_pod_meets_its_ingress_policy_and_answers_pass(here: Node, source: Pod) -> None:
    assert reason_of(here, "to_pod", tcp(source, A), "lxc1") == DropReason.POLICY_DENIED
    here.allow(A, INGRESS, source.identity, 6, 80)
    assert here.run("to_pod", tcp(source, A), "lxc1").retval == TC_ACT_OK
    assert here.run("from_pod", tcp(A, source, 80, 40000), "lxc1").retval == TC_ACT_OK


@pytest.mark.parametrize("source", [B, R], ids=["a pod of this node", "a pod of another node"])
def test_who_has_the_address_of_a_pod_and_comes_by_the_stack_is_not_it(here: Node, source: Pod) -> None:
    here.allow(A, INGRESS)
    assert reason_of(here, "to_pod", tcp(source, A), "lxc1") == DropReason.INVALID_SOURCE


def test_the_stack_cannot_continue_a_flow_between_pods(here: Node) -> None:
    here.allow(A, EGRESS)
    here.allow(B, INGRESS)
    here.run("from_pod", tcp(A, B), "lxc1")
    here.events()
    assert reason_of(here, "to_pod", tcp(A, B), "lxc2") == DropReason.INVALID_SOURCE


def test_a_packet_that_the_stack_sends_to_the_wrong_pod_is_dropped(here: Node) -> None:
    here.allow(A, INGRESS)
    assert reason_of(here, "to_pod", tcp(W, A), "lxc2") == DropReason.NO_ENDPOINT


def test_the_hosts_arp_reaches_the_pod(here: Node) -> None:
    assert here.run("to_pod", arp(), "lxc1").retval == TC_ACT_OK


def test_a_pod_without_a_realised_policy_gets_nothing_from_the_host(here: Node) -> None:
    here.allow(A, INGRESS)
    here.realise(A.slot, 0)
    assert reason_of(here, "to_pod", tcp(THIS_NODE, A), "lxc1") == DropReason.POLICY_NOT_READY


def test_what_comes_by_the_overlay_without_a_tunnel_key_is_dropped(here: Node) -> None:
    before = here.counted(DropReason.NO_TUNNEL_KEY, Hook.FROM_OVERLAY)
    assert reason_of(here, "from_overlay", tcp(R, A), "overlay") == DropReason.NO_TUNNEL_KEY
    assert here.counted(DropReason.NO_TUNNEL_KEY, Hook.FROM_OVERLAY) == before + 1


def test_the_longest_prefix_of_the_ipcache_names_the_peer(here: Node) -> None:
    here.locate("198.51.100.0/24", 1 << 24 | 5)
    here.allow(A, EGRESS, 1 << 24 | 5)
    assert here.run("from_pod", tcp(A, W), "lxc1").retval == TC_ACT_OK
    assert here.events()[0].identity == (A.identity, 1 << 24 | 5)
    assert reason_of(here, "from_pod", tcp(A, Pod("203.0.113.1", WORLD)), "lxc1") == DropReason.POLICY_DENIED


def test_without_an_overlay_another_nodes_pods_are_out_of_reach() -> None:
    with node(has_overlay=False) as lonely:
        populate(lonely)
        lonely.allow(A, EGRESS)
        assert reason_of(lonely, "from_pod", tcp(A, R), "lxc1") == DropReason.NO_OVERLAY
