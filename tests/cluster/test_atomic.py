"""A revision of policies that concerns several subjects of a node comes into force there by one
switch.
"""

import asyncio
import re

import pytest

from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_udp
from laboratory.policies import Policies
from laboratory.streams import steady_udp
from tests.cluster.convergence import converge
from tests.cluster.test_telemetry import address_of, scrape

pytestmark = pytest.mark.cluster

SWAPS = 20
BOTH = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: "%(port)d"}]}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}], toPorts: [{ports: [{port: "%(port)d"}]}]}]
"""
OPEN, CLOSED = 81, 90
"""In both sets below: allowed by both ends; denied by one of them, in the other set by the other.
"""
NARROW_CLIENT = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: client}}, egress: [{toPorts: [{ports: [{port: "81"}]}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{}]}]}
"""
NARROW_WEB = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: client}}, egress: [{toEndpoints: [{}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{toPorts: [{ports: [{port: "81"}]}]}]}
"""


def count(cluster: LocalCluster, name: str) -> int:
    text = scrape(cluster, address_of(cluster, "agent"))
    return int(float(re.findall(rf"^cilia_{name}_total(?:{{table=\"resolved\"}})? (\S+)", text, re.MULTILINE)[0]))


async def test_both_ends_of_a_flow_change_by_one_hand_over(cluster: LocalCluster, policies: Policies) -> None:
    cluster.pod("node1", "shop", "client", {"app": "client"})
    cluster.pod("node1", "shop", "web", {"app": "web"})
    policies.apply(BOTH % {"port": 79})
    await converge(cluster)
    names = ("policy_reconciler_hand_overs", "policy_reconciler_identities", "table_assembly_timeouts")
    hand_overs, subjects, ungathered = (count(cluster, name) for name in names)
    for number in range(SWAPS):
        policies.apply(BOTH % {"port": 80 + number % 2})
    assert count(cluster, "policy_reconciler_identities") - subjects == 2 * SWAPS
    assert count(cluster, "policy_reconciler_hand_overs") - hand_overs == SWAPS
    assert count(cluster, "table_assembly_timeouts") == ungathered


async def test_a_flow_sees_one_set_of_policies_or_the_other_while_they_are_swapped(
    cluster: LocalCluster, policies: Policies
) -> None:
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    web = cluster.pod("node1", "shop", "web", {"app": "web"})
    policies.apply(NARROW_WEB)
    await converge(cluster)
    servers = [await serve_udp(web, port) for port in (OPEN, CLOSED)]
    async with (
        steady_udp(client, web.ipv4, OPEN) as allowed,
        steady_udp(client, web.ipv4, CLOSED) as denied,
    ):
        for number in range(SWAPS):
            await denied.wait_for_more(100)
            text = (NARROW_CLIENT, NARROW_WEB)[number % 2]
            applied = await asyncio.to_thread(policies.cilia, "policy", "apply", "-f", "-", text=text)
            assert applied.returncode == 0, applied.stderr
    for server in servers:
        server.close()
    assert allowed.lost == 0, allowed
    assert denied.received == 0, denied
    assert denied.sent >= 100 * SWAPS
