"""Flood of denied packets of one pod: what the others' packets fare is reported all the same, and
policy comes into force as before.
"""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from laboratory.cluster import LocalCluster
from laboratory.flood import flooding
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.wait import wait_until

pytestmark = pytest.mark.cluster

CLOSED, OTHER = 4242, 4243
ISOLATED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: isolated, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: []
  ingressDeny: [{}]
"""
LIMITED = "above the limit of their pod or node"


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=1)


@contextmanager
def monitor(cluster: LocalCluster, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Listen to flows for the block; the caller reads what was said."""
    command = [sys.executable, "-m", "cilia.commands.cli", "--cluster", cluster.layout.name, "monitor", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        try:
            yield process
        finally:
            process.kill()


def send_one(pod: Pod, address: str) -> None:
    with closing(pod.open_socket(socket.SOCK_DGRAM)) as opened:
        opened.sendto(b"one", (address, CLOSED))


def unshown_events(policies: Policies) -> str:
    """Return what the status says of events that were not shown."""
    run = policies.cilia("status")
    assert run.returncode == 0, run.stderr
    return run.stderr


async def test_a_single_drop_of_one_pod_is_seen_while_another_floods(cluster: LocalCluster, policies: Policies) -> None:
    server = cluster.pod("node1", "shop", "server", {"app": "server"})
    flooder = cluster.pod("node1", "shop", "flooder", {"app": "flooder"})
    quiet = cluster.pod("node1", "shop", "quiet", {"app": "quiet"})
    policies.apply(ISOLATED)
    with flooding(flooder, server.ipv4, OTHER):
        await wait_until(lambda: LIMITED in unshown_events(policies))
        with monitor(
            cluster, "--drops", "--from", "shop/quiet", "--count", "1", "--timeout", "60", "-o", "json"
        ) as seen:
            send_one(quiet, server.ipv4)
            output, errors = await asyncio.to_thread(seen.communicate)
        policies.delete("CiliumNetworkPolicy/shop/isolated")
    assert seen.returncode == 0, errors
    flow = json.loads(output)
    assert (flow["source_endpoint"], flow["destination_port"]) == ("shop/quiet", CLOSED)
