"""Flood of new flows by one pod, or towards one, leaves the connections of all others alone.

The server's policy allows nobody but the client to begin, so that a connection whose entry was
evicted would not be taken up again.
"""

import asyncio
from contextlib import ExitStack, closing
from socket import SOCK_STREAM, socket

import pytest

from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.flood import flooding
from laboratory.machine import Machine
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.wait import wait_until
from tests.cluster.convergence import converge

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PORT = 80
CONNECTIONS = 200
FLOODS = 3
CLIENT_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client-only, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]
  egress: [{toEndpoints: [{matchLabels: {app: nobody}}]}]
"""


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=1, flows=8192)


async def connect(client: Machine, address: str) -> socket:
    opened = client.open_socket(SOCK_STREAM, to=address)
    await asyncio.get_running_loop().sock_connect(opened, (address, PORT))
    return opened


async def answers(opened: socket) -> bool:
    """Tell whether the server answers on a connection; as long as TCP tries, so do we."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        await loop.sock_sendall(opened, b"still there?")
        return bool(await loop.sock_recv(opened, 100))


def status(policies: Policies) -> str:
    run = policies.cilia("status")
    return run.stdout + run.stderr


async def test_no_connection_of_others_is_lost_while_pods_flood_each_other_with_new_flows(
    cluster: LocalCluster, policies: Policies
) -> None:
    server = cluster.pod("node1", "shop", "server", {"app": "server"})
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    victim = cluster.pod("node1", "shop", "victim", {"app": "victim"})
    flooders = [cluster.pod("node1", "shop", f"flooder{number}", {"app": "flooder"}) for number in range(FLOODS)]
    policies.apply(CLIENT_ONLY)
    await converge(cluster)
    async with echoing([server], tcp=(PORT,)):
        with ExitStack() as stack:
            opened = [
                stack.enter_context(closing(await connect(client, address)))
                for address in server.addresses
                for _ in range(CONNECTIONS)
            ]
            assert all(await asyncio.gather(*map(answers, opened)))
            for number, flooder in enumerate(flooders):
                for address in victim.addresses:
                    stack.enter_context(flooding(flooder, address, 1000 + 20_000 * number, 20_999 + 20_000 * number))
            await wait_until(lambda: "has its share of flows" in status(policies))
            await asyncio.sleep(5)  # some hundred thousand datagrams, each of a flow of its own
            fresh = stack.enter_context(closing(await connect(client, server.ipv4)))
            assert all(await asyncio.gather(*map(answers, [*opened, fresh])))
