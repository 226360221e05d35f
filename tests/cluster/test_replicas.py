"""Two replicas of each service: one hangs, or is killed and stays dead; the other goes on."""

import asyncio

import pytest

from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_tcp
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.wait import wait_until
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


ALTERS_CLUSTER = True


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2, replicas=2, external_host=True)


async def test_a_replica_that_hangs_costs_no_pod(shared_cluster: LocalCluster) -> None:
    hanging = ("service/identity-1", "service/ipam-1")
    for name in hanging:
        shared_cluster.freeze(name)
    try:
        for number in range(12):  # while it is still asked, and once it is asked no more
            await asyncio.to_thread(shared_cluster.pod, "node1", "shop", f"p{number}", {"app": f"a{number % 3}"})
            await asyncio.sleep(0.3)
    finally:
        for name in hanging:
            shared_cluster.thaw(name)
    await wait_until(lambda: not any(shared_cluster.problems().values()))
    await converge(shared_cluster)


async def test_the_other_replica_goes_on(shared_cluster: LocalCluster) -> None:
    policies = Policies(shared_cluster)
    web = shared_cluster.pod("node1", "shop", "web", {"app": "web"})
    client = shared_cluster.pod("node2", "shop", "client", {"app": "client"})
    async with await serve_tcp(web, 80):
        policies.apply(POLICY % "client")
        assert await reaches_tcp(client, web.ipv4, 80)
        for service in ("ipam", "identity", "policy"):
            shared_cluster.kill(f"service/{service}-1")
        stranger = shared_cluster.pod("node2", "shop", "stranger", {"app": "stranger"})
        assert not await reaches_tcp(stranger, web.ipv4, 80)
        await asyncio.to_thread(policies.apply, POLICY % "stranger")
        assert await reaches_tcp(stranger, web.ipv4, 80)
        assert not await reaches_tcp(client, web.ipv4, 80)
        await converge(shared_cluster)
