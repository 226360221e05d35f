"""The data plane as it is shipped, under traffic: a local cluster whose agents wire the pods and
fill the maps.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.traffic import FLOW_PORTS, PORT, Way
from cilia.contracts.agent import EndpointPolicy
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path
from laboratory.pod import Pod
from laboratory.policies import Policies

ENTRIES: Final = (10, 1000, 10000)
"""Ports in a server's policy, of which traffic uses one; nftables gets as many rules."""
PORTS_OF_A_RULE: Final = 40
"""The language allows no more."""
CLIENT_POLICY: Final = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: client, namespace: bench}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  egress:
  - toEndpoints: [{{matchLabels: {{tier: server}}}}]
    toPorts:
    - ports:
      - {{port: "{port}", protocol: TCP}}
      - {{port: "{port}", endPort: {last}, protocol: UDP}}
"""
SERVER_POLICY: Final = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server-{count}, namespace: bench}}
spec:
  endpointSelector: {{matchLabels: {{ports: "{count}"}}}}
  ingress:
  - fromEndpoints: [{{matchLabels: {{app: client}}}}]
    toPorts:
    - ports:
      - {{port: "{port}", endPort: {last}, protocol: UDP}}
"""


@dataclass(frozen=True, slots=True)
class Ours:
    """Cluster with a client and servers: one for each of ENTRIES beside it, one on another node."""

    cluster: LocalCluster
    client: Pod
    local: dict[int, Pod]
    remote: Pod

    def way(self, server: Pod) -> Way:
        """Return how traffic gets from the client to a server."""
        return Way(netns_path(self.client.network), netns_path(server.network), server.ipv4)


class WrongPolicy(Exception):
    """The kernel doesn't hold as many entries as the benchmark says."""

    def __init__(self, pod: Pod, wanted: int, found: int) -> None:
        super().__init__(f"{pod.name} has {found} entries for TCP in force instead of {wanted}")


@contextmanager
def our_cluster() -> Iterator[Ours]:
    """Two nodes, with policy in force at both ends, for the block."""
    cluster = LocalCluster.up(f"bench-{os.getpid()}", nodes=2)
    try:
        client = cluster.pod("node1", "bench", "client", {"app": "client"})
        local = {count: _server(cluster, "node1", count) for count in ENTRIES}
        remote = _server(cluster, "node2", ENTRIES[0], "remote-")
        policies = Policies(cluster)
        policies.apply(CLIENT_POLICY.format(port=PORT, last=PORT + FLOW_PORTS - 1))
        for count, pod in local.items():
            policies.apply(server_policy(count))
            _check(cluster, pod, count)
        yield Ours(cluster, client, local, remote)
    finally:
        cluster.down()


def ports(count: int) -> Sequence[int]:
    """Return as many ports, none beside another; the servers' is in the middle."""
    return range(PORT - 3 * (count // 2), PORT + 3 * (count - count // 2), 3)


def server_policy(count: int) -> str:
    """Allow so many TCP ports, one by one."""
    lines = [SERVER_POLICY.format(count=count, port=PORT, last=PORT + FLOW_PORTS - 1)]
    for number, port in enumerate(ports(count)):
        if number % PORTS_OF_A_RULE == 0:
            lines.append("    - ports:\n")
        lines.append(f'      - {{port: "{port}", protocol: TCP}}\n')
    return "".join(lines)


def _server(cluster: LocalCluster, node: str, count: int, prefix: str = "") -> Pod:
    return cluster.pod(node, "bench", f"{prefix}server-{count}", {"tier": "server", "ports": str(count)})


def _check(cluster: LocalCluster, pod: Pod, count: int) -> None:
    held = cluster.agent_call(pod.node, "policy-get", pod.reference, EndpointPolicy)
    found = sum(rule.key.protocol == 6 for rule in held.rules)
    if found != count:
        raise WrongPolicy(pod, count, found)
