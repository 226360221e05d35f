"""A policy that a node has no room for is refused with the numbers, and what is in force stays."""

import json
import os
from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from tests.cluster.convergence import differences

pytestmark = pytest.mark.cluster

ENTRIES = 300
"""Size of a node's policy map in these tests."""


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[LocalCluster]:
    cluster = LocalCluster.up(f"room-{os.getpid()}", nodes=1, agent_settings={"maps-policy": str(ENTRIES)})
    try:
        yield cluster
    finally:
        cluster.down()


def policy(ports: int) -> str:
    """Let clients reach so many ports of the servers, of which no two have a prefix in common."""
    numbers = [{"port": str(2000 + 3 * number), "protocol": "TCP"} for number in range(ports)]
    blocks = [{"ports": numbers[at : at + 40]} for at in range(0, ports, 40)]
    rule = {"fromEndpoints": [{"matchLabels": {"app": "client"}}], "toPorts": blocks}
    spec = {"endpointSelector": {"matchLabels": {"role": "server"}}, "ingress": [rule]}
    meta = {"name": "many", "namespace": "shop"}
    return json.dumps({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec})


async def test_a_dry_run_tells_what_it_would_cost(cluster: LocalCluster, policies: Policies) -> None:
    cluster.pod("node1", "shop", "web", {"role": "server"})
    cluster.pod("node1", "shop", "client", {"app": "client"})
    run = policies.cilia("policy", "apply", "-f", "-", "--dry-run", text=policy(50))
    assert run.returncode == 0, run.stderr
    assert f"node1: 55 entries, 57 while it changes, of {ENTRIES} (19.0 %)" in run.stderr


async def test_what_does_not_fit_is_refused_by_name_and_nothing_changes(
    cluster: LocalCluster, policies: Policies
) -> None:
    for number in range(3):
        cluster.pod("node1", "shop", f"web{number}", {"role": "server", "app": f"web{number}"})
    cluster.pod("node1", "shop", "client", {"app": "client"})
    policies.apply(policy(20))
    run = policies.cilia("policy", "apply", "-f", "-", text=policy(120))
    assert run.returncode == 1
    assert "CiliumNetworkPolicy/shop/many: its subject with identity" in run.stderr
    assert f"and holds {ENTRIES}" in run.stderr
    assert policies.cilia("policy", "get", "shop/many").stdout.count("protocol: TCP") == 20
    assert await differences(cluster) == []
