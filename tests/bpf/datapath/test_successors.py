"""An address's next owner inherits no flow of the former one, on its node and on all others."""

from collections.abc import Iterator

import pytest

from cilia.abi.enums import DropReason
from tests.bpf.datapath.packets import tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    INGRESS,
    R6,
    TC_ACT_SHOT,
    A,
    B,
    Node,
    R,
    node,
    populate,
)

FAMILIES = ["IPv4", "IPv6"]
ENDS = {"IPv4": (A, B, R), "IPv6": (A6, B6, R6)}
OTHER = 1099


@pytest.fixture(scope="module")
def native() -> Iterator[Node]:
    with node(variables={"is_native": 1}, has_overlay=False) as here:
        yield here


@pytest.fixture
def routed(native: Node) -> Node:
    """A node without tunnels, whose A may begin flows with everybody and accepts none."""
    native.flows.delete_many([key for key, _ in native.flows.items()])
    native.flows6.delete_many([key for key, _ in native.flows6.items()])
    native.policy.delete_many([key for key, _ in native.policy.items()])
    populate(native)
    native.allow(A, EGRESS)
    while native.events():
        pass
    return native


def dropped(here: Node) -> DropReason:
    return DropReason(here.events()[-1].reason)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("packets", ["TCP", "UDP"])
def test_a_pod_of_another_node_is_not_answered_to_as_its_predecessor(routed: Node, family: str, packets: str) -> None:
    client, _, server = ENDS[family]
    first, answer = (
        (tcp(client, server), tcp(server, client, 80, 40000, flags="PA"))
        if packets == "TCP"
        else (udp(client, server), udp(server, client, 53, 40000))
    )
    routed.locate(server.address, server.identity, owner=7)
    assert routed.run("from_pod", first, "lxc1").retval != TC_ACT_SHOT
    assert routed.run("from_uplink", answer, "uplink").retval != TC_ACT_SHOT
    relabelled = OTHER
    routed.locate(server.address, relabelled, owner=7)
    routed.renew(server.address)
    assert routed.run("from_uplink", answer, "uplink").retval != TC_ACT_SHOT, "the same pod, with other labels"
    for identity in (relabelled, server.identity):
        routed.locate(server.address, identity, owner=8)
        routed.renew(server.address)
        routed.events()
        assert routed.run("from_uplink", answer, "uplink").retval == TC_ACT_SHOT
        assert dropped(routed) == DropReason.POLICY_DENIED
    routed.locate(server.address, server.identity, owner=7)
    routed.renew(server.address)
    assert routed.run("from_uplink", answer, "uplink").retval != TC_ACT_SHOT, "nobody else has touched its flow"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_successor_begins_flows_of_its_own_over_the_ports_of_the_former(routed: Node, family: str) -> None:
    client, _, server = ENDS[family]
    routed.locate(server.address, server.identity, owner=7)
    assert routed.run("from_pod", tcp(client, server), "lxc1").retval != TC_ACT_SHOT
    routed.locate(server.address, server.identity, owner=8)
    routed.renew(server.address)
    assert routed.run("from_pod", tcp(client, server), "lxc1").retval != TC_ACT_SHOT
    assert routed.run("from_uplink", tcp(server, client, 80, 40000, flags="SA"), "uplink").retval != TC_ACT_SHOT


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pod_of_this_node_is_not_answered_to_as_its_predecessor(routed: Node, family: str) -> None:
    client, server, _ = ENDS[family]
    routed.allow(server, INGRESS)
    routed.allow(server, EGRESS)
    answer = tcp(server, client, 80, 40000, flags="PA")
    assert routed.run("from_pod", tcp(client, server), "lxc1").retval != TC_ACT_SHOT
    assert routed.run("from_pod", answer, "lxc2").retval != TC_ACT_SHOT
    routed.add_pod(server._replace(id=9))
    routed.renew(server.address)
    routed.events()
    assert routed.run("from_pod", answer, "lxc2").retval == TC_ACT_SHOT
    assert dropped(routed) == DropReason.POLICY_DENIED


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_outlives_a_time_in_which_nobody_knows_its_ends(routed: Node, family: str) -> None:
    client, _, server = ENDS[family]
    answer = tcp(server, client, 80, 40000, flags="PA")
    routed.locate(server.address, server.identity, owner=7)
    assert routed.run("from_pod", tcp(client, server), "lxc1").retval != TC_ACT_SHOT
    routed.locate(server.address, server.identity)
    routed.renew(server.address)
    assert routed.run("from_uplink", answer, "uplink").retval != TC_ACT_SHOT
    routed.locate(server.address, server.identity, owner=7)
    routed.renew(server.address)
    assert routed.run("from_uplink", answer, "uplink").retval != TC_ACT_SHOT
