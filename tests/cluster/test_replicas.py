"""Two replicas of each service: one is killed and stays dead, and nobody has to wait for it."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from laboratory.traffic import reaches_tcp, serve_tcp
from tests.cluster.convergence import converge

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{matchLabels: {app: %s}}]}]
"""


@pytest.fixture
def replicated() -> Iterator[LocalCluster]:
    cluster = LocalCluster.up(f"replicas-{os.getpid()}", nodes=2, replicas=2)
    try:
        yield cluster
    finally:
        cluster.down()


async def test_the_other_replica_goes_on(replicated: LocalCluster) -> None:
    policies = Policies(replicated)
    web = replicated.pod("node1", "shop", "web", {"app": "web"})
    client = replicated.pod("node2", "shop", "client", {"app": "client"})
    async with await serve_tcp(web, 80):
        policies.apply(POLICY % "client")
        assert await reaches_tcp(client, web.ipv4, 80)
        for service in ("ipam", "identity", "policy"):
            replicated.kill(f"service/{service}-1")
        stranger = replicated.pod("node2", "shop", "stranger", {"app": "stranger"})
        assert not await reaches_tcp(stranger, web.ipv4, 80)
        await asyncio.to_thread(policies.apply, POLICY % "stranger")
        assert await reaches_tcp(stranger, web.ipv4, 80)
        assert not await reaches_tcp(client, web.ipv4, 80)
        await converge(replicated)
