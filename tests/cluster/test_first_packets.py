"""First packets of new identities: a pod that is ready is known where policy names it."""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import closing

import pytest

from laboratory.cluster import LocalCluster
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration

pytestmark = pytest.mark.cluster

PORT = 5000
ROUNDS = 30
FROM_THE_TEAM = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: team, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {team: blue}}]}]
"""


def send(pod: Pod, servers: Iterable[Pod], word: bytes) -> None:
    for server in servers:
        with closing(pod.open_socket(socket.SOCK_DGRAM)) as opened:
            opened.sendto(word, (server.ipv4, PORT))


async def arrived(server: Pod, expected: set[bytes]) -> set[bytes]:
    """Return the words that a server got; waits for those that are expected, bounded."""
    got: set[bytes] = set()
    opened, loop = server.sockets[0], asyncio.get_running_loop()
    try:
        async with asyncio.timeout(5):
            while not expected <= got:
                got.add(await loop.sock_recv(opened, 64))
    except TimeoutError:
        pass
    return got


@pytest.fixture(scope="module", params=["overlay", "native"])
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return Configuration(nodes=3, routing=request.param)


async def test_the_first_packet_of_a_new_identity_reaches_every_node(cluster: LocalCluster, policies: Policies) -> None:
    servers = [cluster.pod(node, "shop", f"server-{node}", {"app": "server"}) for node in ("node1", "node2", "node3")]
    for server in servers:
        server.listen(PORT, socket.SOCK_DGRAM)
    policies.apply(FROM_THE_TEAM)
    words = set()
    clients = []
    for number in range(ROUNDS):
        clients.append(cluster.pod("node1", "shop", f"client-{number}", {"team": "blue", "number": str(number)}))
        words.add(word := b"created %d" % number)
        send(clients[-1], servers, word)
    for number, client in enumerate(clients):
        client.relabel({"team": "blue", "number": f"again-{number}"})
        words.add(word := b"relabelled %d" % number)
        send(client, servers, word)
    missing = {server.name: words - await arrived(server, words) for server in servers}
    assert not any(missing.values()), missing
