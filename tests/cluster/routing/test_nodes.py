"""Policies that name nodes by their labels, on real traffic in each routing mode."""

import json

import pytest

from cilia.contracts.agent import MapContents, MapQuery
from cilia.contracts.identities import Reserved
from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from laboratory.streams import steady_udp
from laboratory.wait import wait_while
from tests.cluster.routing.peers import ALL, NONE, PORT, Peers, answering, reached, reached_by

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ALTERS_CLUSTER = True

FROM_NODES = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromNodes: [{matchLabels: {zone: %s}}]
"""
TO_NODES = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toNodes: [{matchExpressions: [{key: zone, operator: %s}]}]
"""
FROM_REMOTE_NODES = FROM_NODES.replace("fromNodes: [{matchLabels: {zone: %s}}]", "fromEntities: [remote-node]")


async def label(cluster: LocalCluster, node: str, *labels: str) -> None:
    """Have a node come back with other labels, and wait until the other one knows them."""
    cluster.restart(f"agent/{node}", settings={"labels": ",".join(labels)})
    (record,) = [each for each in cluster.state.nodes if each.name == node]
    (other,) = [each.name for each in cluster.state.nodes if each.name != node]
    await wait_while(lambda: (identity_of(cluster, other, record.ipv4) == Reserved.REMOTE_NODE) == bool(labels))


def identity_of(cluster: LocalCluster, node: str, address: str) -> int:
    """Return what an address is to a node's programs."""
    contents = cluster.agent_call(node, "map-get", MapQuery("cilia_ipcache", 100_000), MapContents)
    return next(int(value["identity"]) for key, value in contents.entries if key["address"] == address)


async def test_a_node_is_let_in_by_its_labels(shared: LocalCluster, peers: Peers, policies: Policies) -> None:
    await label(shared, "node1", "zone=a")
    async with answering([peers.near, peers.far]):
        policies.apply(FROM_NODES % "a")
        assert await reached(peers.host, peers.far) == ALL
        assert await reached(peers.client, peers.far) == NONE
        assert await reached(peers.remote_host, peers.near) == NONE, "it has no labels"
        policies.apply(FROM_NODES % "b")
        assert await reached(peers.host, peers.far) == NONE
        assert await reached(peers.host, peers.near) == ALL, "a node always reaches its own pods"
        policies.apply(FROM_REMOTE_NODES)
        assert await reached(peers.host, peers.far) == ALL, "a node with labels is a node"


async def test_a_flow_of_a_node_goes_on_when_its_labels_come(
    shared: LocalCluster, peers: Peers, policies: Policies
) -> None:
    await label(shared, "node1")
    policies.apply(FROM_REMOTE_NODES)
    async with answering([peers.far]), steady_udp(peers.host, peers.far.ipv4, PORT, per_second=100) as tally:
        await label(shared, "node1", "zone=a")
        await tally.wait_for_more(60)
    assert tally.received > 50
    assert tally.lost == 0


async def test_a_pod_reaches_nodes_by_their_labels(shared: LocalCluster, peers: Peers, policies: Policies) -> None:
    await label(shared, "node2", "zone=b", "disk=fast")
    others = peers.others()
    async with answering(others.values()):
        policies.apply(TO_NODES % "Exists")
        expected = {name: ALL if name == "remote host" else NONE for name in others}
        assert await reached_by(peers.client, others) == expected
        policies.apply(TO_NODES % "DoesNotExist")
        assert await reached_by(peers.client, others) == dict.fromkeys(others, NONE)
    shown = policies.cilia(
        "policy", "explain", "--from", "shop/client", "--to", "shop/far", "--port", "80/TCP", "-o", "json"
    )
    assert json.loads(shown.stdout)["allowed"] is False
