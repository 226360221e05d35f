"""Two replicas of each service: one is killed and stays dead, and nobody has to wait for it."""

import asyncio

import pytest

from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_tcp
from laboratory.policies import Policies
from laboratory.pool import Configuration
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
