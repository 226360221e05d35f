"""Explanations of flows to and from addresses, against the packets: own node, other nodes, pods."""

import asyncio
import json

import pytest

from laboratory.attempts import reaches_icmp
from laboratory.cluster import LocalCluster
from laboratory.policies import Policies

pytestmark = pytest.mark.cluster

BLOCK = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: block, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]
"""
NODES = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: nodes, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEntities: [remote-node]}]
"""
NO_HOST = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-host, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egressDeny: [{toEntities: [host]}]
  egress: [{toEntities: [all]}]
"""
WORLD_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: world, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEntities: [world]}]
"""


def explained(policies: Policies, source: str, destination: str) -> bool:
    run = policies.cilia("policy", "explain", "--from", source, "--to", destination, "--port", "8/ICMP", "-o", "json")
    assert run.returncode == 0, run.stderr
    return bool(json.loads(run.stdout)["allowed"])


@pytest.mark.parametrize("policy", [BLOCK, NODES, NO_HOST, WORLD_ONLY], ids=["block", "nodes", "no host", "world"])
async def test_what_is_said_of_an_address_is_what_packets_to_it_meet(
    cluster: LocalCluster, policies: Policies, policy: str
) -> None:
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    near = cluster.pod("node1", "shop", "near", {"app": "web"})
    far = cluster.pod("node2", "shop", "far", {"app": "web"})
    policies.apply(policy)
    targets = [near.ipv4, far.ipv4, cluster.host("node1").ipv4, cluster.host("node2").ipv4]
    said = [explained(policies, "shop/client", address) for address in targets]
    met = await asyncio.gather(*(reaches_icmp(client, address, seconds=1) for address in targets))
    assert dict(zip(targets, met, strict=True)) == dict(zip(targets, said, strict=True))
