"""Policy on real nodes: from the acceptance of a change until kernels hold it, and until a packet
notices.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from statistics import quantiles
from typing import Final

from bench.policy_flip import UDP_PORT, measure_flip
from bench.report import Figure, summarize
from cilia.bus import Bus, BusConfig, connect_bus
from cilia.contracts.policies import ApplyPolicies, PoliciesChanged
from cilia.contracts.realisation import Realised, WaitRealised
from cilia.netns import enter
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path
from laboratory.pod import Pod

PODS: Final = 100
"""Number of pods on one node, each with an identity of its own."""
CHANGES: Final = 100
PAUSE_SECONDS: Final = 0.05
"""Between two changes: what the last one replaced is cleaned up by then, after one or two grace
periods of RCU.
"""
POLICY: Final = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bench-%s, namespace: bench}
spec:
  endpointSelector: {matchLabels: {%s: "yes"}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "%d", protocol: UDP}]}]
"""

_ports = count(10_000)


@contextmanager
def own_cluster() -> Iterator[LocalCluster]:
    """A cluster of three nodes for the block."""
    cluster = LocalCluster.up("benchpolicy", nodes=3)
    try:
        yield cluster
    finally:
        cluster.down()


def measure_nodes() -> list[Figure]:
    """Measure on a cluster of three nodes."""
    with own_cluster() as cluster:
        for number in range(PODS):
            sizes = [size for size in (1, 10, 100) if number < size]
            cluster.pod("node1", "bench", f"web{number}", {"app": f"web{number}", **{f"h{n}": "yes" for n in sizes}})
        for node in ("node1", "node2", "node3"):
            cluster.pod(node, "bench", f"client-{node}", {"app": "client"})
            cluster.pod(node, "bench", f"spread-{node}", {"app": "spread", "spread": "yes"})
        with ThreadPoolExecutor(1) as thread:  # it stays beside etcd and NATS, where the bus may connect again
            return thread.submit(lambda: asyncio.run(_measure(cluster))).result()


async def _measure(cluster: LocalCluster) -> list[Figure]:
    enter(netns_path(cluster.layout.hub))
    pods = {pod.endpoint.name: pod for pod in cluster.pods}
    figures = []
    async with connect_bus(BusConfig(urls=(cluster.state.nats,)), cluster=cluster.layout.name, name="bench") as bus:
        for endpoints in (1, 10, 100):
            figures += await measure_realised(bus, f"h{endpoints}", endpoints, f"policy.realised.{endpoints}_endpoints")
        figures += (await measure_realised(bus, "h10", 10, "policy.realised.back_to_back.10_endpoints", 0.0))[:1]
        figures += await measure_realised(bus, "spread", 3, "policy.realised")
        figures.append(await _flip(bus, pods["client-node2"], pods["spread-node1"]))
    return [figure for figure in figures if not figure.name.endswith("endpoints.p99_ms")]


async def measure_realised(
    bus: Bus, label: str, endpoints: int, name: str, pause_seconds: float = PAUSE_SECONDS
) -> list[Figure]:
    """Change the one rule of pods with a label: until the last kernel holds it, and until the
    caller is told so.

    Counted from when the kvstore has the change, as the peer's figures begin with the policy's
    import; and as well from the request's acceptance, which includes storing it.
    """
    realised, accepted, told = [], [], []
    for _ in range(CHANGES):
        await asyncio.sleep(pause_seconds)
        started = time.perf_counter()
        answer = await change(bus, label, next(_ports))
        told.append((time.perf_counter() - started) * 1e3)
        assert answer.complete, answer
        assert sum(node.endpoints for node in answer.nodes) == endpoints, answer
        accepted.append(max(node.milliseconds for node in answer.nodes))
        realised.append(accepted[-1] - answer.storing_milliseconds)
    tail = quantiles(realised, n=100)[98]
    return [
        summarize(f"{name}.ms", "ms", realised),
        Figure(name=f"{name}.p99_ms", value=tail, unit="ms", low=min(realised), high=max(realised), n=CHANGES),
        summarize(f"{name}.accepted_ms", "ms", accepted),
        summarize(f"{name}.told_ms", "ms", told),
    ]


async def apply(bus: Bus, label: str, port: int) -> PoliciesChanged:
    """Allow clients one UDP port of the pods with a label."""
    request = ApplyPolicies(POLICY % (label, label, port))
    return await bus.request(bus.subjects.request("policy", "apply"), request, PoliciesChanged)


async def change(bus: Bus, label: str, port: int) -> Realised:
    """Do so, and wait until it is in force."""
    changed = await apply(bus, label, port)
    wait = WaitRealised(changed.revision, 5.0)
    return await bus.request(bus.subjects.request("policy", "wait"), wait, Realised, timeout=10.0)


async def _flip(bus: Bus, client: Pod, server: Pod) -> Figure:
    async def deny() -> None:
        await change(bus, "spread", next(_ports))

    async def allow() -> None:
        await apply(bus, "spread", UDP_PORT)

    return await measure_flip(client, server, deny=deny, allow=allow)
