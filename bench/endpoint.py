"""Times that users see: a pod connected, a policy in force, an agent restarted.

``python -m bench.endpoint [--json]``. The services' own rates come from bench.identity and
bench.table.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Final

import msgspec

from bench.report import Figure, report, summarize
from cilia.contracts.agent import AgentState, AgentStatus, CreateEndpoint, EndpointReference, LocalEndpoint
from cilia.contracts.messages import Empty
from cilia.contracts.realisation import Realised
from laboratory import agent_client
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path
from laboratory.namespaces import create_namespace, delete_namespace

PODS: Final = 100
CHANGES: Final = 100
POLICY: Final = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bench, namespace: bench}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "%d", protocol: TCP}]}]
"""


def main() -> None:
    """Measure and print."""
    figures: list[Figure] = []
    with own_cluster() as cluster:
        figures += measure_policy(cluster)
        figures += measure_endpoints(cluster)
    figures += figures_of("bench.identity", "identity.allocate.per_s")
    figures += figures_of("bench.table", "table.delta.500_agents.ms")
    report(figures)


@contextmanager
def own_cluster() -> Iterator[LocalCluster]:
    """A cluster of three nodes for the block."""
    cluster = LocalCluster.up("bench", nodes=3)
    try:
        yield cluster
    finally:
        cluster.down()


def measure_policy(cluster: LocalCluster) -> list[Figure]:
    """Change a policy that concerns pods on all nodes: until the last kernel holds it, counted as
    bench.policy does.
    """
    for number in range(1, 4):
        cluster.pod(f"node{number}", "bench", f"web{number}", {"app": "web"})
        cluster.pod(f"node{number}", "bench", f"client{number}", {"app": "client"})
    slowest, accepted = [], []
    for number in range(CHANGES):
        realised = apply(cluster, POLICY % (1000 + number))
        assert realised.complete, realised
        accepted.append(max(node.milliseconds for node in realised.nodes))
        slowest.append(accepted[-1] - realised.storing_milliseconds)
    tail = quantiles(slowest, n=100)[98]
    return [
        summarize("policy.realised.ms", "ms", slowest),
        summarize("policy.realised.accepted_ms", "ms", accepted),
        Figure(name="policy.realised.p99_ms", value=tail, unit="ms", low=min(slowest), high=max(slowest), n=CHANGES),
    ]


def apply(cluster: LocalCluster, text: str) -> Realised:
    """Apply by the command line, as a user does."""
    command = [sys.executable, "-m", "cilia.commands.cli", "--cluster", cluster.layout.name]
    command += ["policy", "apply", "-f", "-", "--wait", "-o", "json"]
    run = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    return msgspec.json.decode(run.stdout, type=Realised)


def measure_endpoints(cluster: LocalCluster) -> list[Figure]:
    """Connect 100 pods to one node, restart its agent under them, disconnect them."""
    names = [cluster.layout.pod_namespace("bench", f"pod{number}") for number in range(PODS)]
    for name in names:
        create_namespace(name)
    created, pods = [], []
    for number, name in enumerate(names):
        request = CreateEndpoint("bench", f"pod{number}", str(netns_path(name)), {"app": f"app{number % 10}"})
        milliseconds, _ = timed(lambda: cluster.agent_call("node1", "endpoint-create", request, LocalEndpoint))  # noqa: B023
        created.append(milliseconds)
        pods.append(EndpointReference(namespace="bench", name=request.name))
    status = cluster.agent_call("node1", "status", Empty(), AgentStatus)
    restarts = [restart(cluster) for _ in range(5)]
    deleted = [
        timed(lambda: cluster.agent_call("node1", "endpoint-delete", pod, Empty))[0]  # noqa: B023
        for pod in pods
    ]
    for name in names:
        delete_namespace(name)
    tail = quantiles(created, n=20)[18]
    return [
        summarize("endpoint.create.ms", "ms", created),
        Figure(name="endpoint.create.p95_ms", value=tail, unit="ms", low=min(created), high=max(created), n=PODS),
        summarize("endpoint.delete.ms", "ms", deleted),
        summarize("agent.rss.mb", "MB", [status.rss_bytes / 1e6]),
        summarize("agent.restart_100_endpoints.s", "s", restarts),
    ]


def timed(action: Callable[[], LocalEndpoint | Empty]) -> tuple[float, LocalEndpoint]:
    """Return the milliseconds that an action took, and its result."""
    started = time.perf_counter()
    result = action()
    return (time.perf_counter() - started) * 1e3, result  # type: ignore[return-value]


def restart(cluster: LocalCluster) -> float:
    """kill -9 the agent; return the seconds from its start until it manages all endpoints again."""
    cluster.kill("agent/node1")
    started = time.perf_counter()
    cluster.start("agent/node1", wait=False)
    while True:
        try:
            status = agent_client.call(
                cluster.layout.agent_socket("node1"), "status", Empty(), AgentStatus, timeout_seconds=1
            )
        except agent_client.AgentUnreachable:
            time.sleep(0.005)
            continue
        if status.state is AgentState.READY and status.endpoints_ready >= PODS:
            return time.perf_counter() - started
        time.sleep(0.005)


def figures_of(module: str, name: str) -> list[Figure]:
    """Return a figure that another benchmark measures."""
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-m", module, "--json"], capture_output=True, check=True, cwd=root)
    figures = [msgspec.json.decode(line, type=Figure) for line in run.stdout.splitlines()]
    return [figure for figure in figures if figure.name == name]


if __name__ == "__main__":
    main()
