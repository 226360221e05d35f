"""A stranger that speaks VXLAN to a node: it is no pod and no host, and redirects no packets."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.stranger import Stranger, stranger_on
from tests.cluster.attacks.datagrams import HONEST, HOST_ONLY, ONE_CLIENT, PORT, datagram, heard, only_honest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2)


@pytest.fixture
def server(cluster: LocalCluster) -> Pod:
    return cluster.pod("node1", "shop", "server", {"app": "server"})


@pytest.fixture
def stranger(cluster: LocalCluster) -> Iterator[Stranger]:
    with stranger_on(cluster) as made:
        yield made


async def test_it_is_no_pod(cluster: LocalCluster, policies: Policies, server: Pod, stranger: Stranger) -> None:
    client = cluster.pod("node2", "shop", "client", {"app": "client"})
    policies.apply(ONE_CLIENT)
    listener = server.listen(PORT, socket.SOCK_DGRAM)
    identity = client.endpoint.identity
    for source, address in zip(client.addresses, server.addresses, strict=True):
        await only_honest(listener, client, address)
        for port in (40000, 40001):
            stranger.tunnel("node1", datagram(source, address, sport=port), identity)
        unknown = source[:-1] + ("9" if source[-1] != "9" else "8")
        stranger.tunnel("node1", datagram(unknown, address), identity)
        await only_honest(listener, client, address)


async def test_it_is_no_host(cluster: LocalCluster, policies: Policies, server: Pod, stranger: Stranger) -> None:
    policies.apply(HOST_ONLY.replace("[host]", "[host, remote-node]"))
    listener = server.listen(PORT, socket.SOCK_DGRAM)
    near, far = cluster.host("node1"), cluster.host("node2")
    for own, remote, address in zip(near.addresses, far.addresses, server.addresses, strict=True):
        for outer in ("", far.ipv4):
            stranger.tunnel("node1", datagram(own, address), 1, outer=outer)
        stranger.tunnel("node1", datagram(remote, address), 1)
        await only_honest(listener, far, address)


async def test_it_redirects_no_flow_of_two_pods_of_a_node(
    cluster: LocalCluster, policies: Policies, server: Pod, stranger: Stranger
) -> None:
    near = cluster.pod("node1", "shop", "near", {"app": "client"})
    listener = server.listen(PORT, socket.SOCK_DGRAM)
    with near.open_socket(socket.SOCK_DGRAM) as opened:
        opened.bind((near.ipv4, 41000))
        opened.sendto(HONEST, (server.ipv4, PORT))
        assert await heard(listener) == HONEST
        forged = datagram(server.ipv4, near.ipv4, sport=PORT, dport=41000)
        for outer in ("", cluster.host("node2").ipv4):
            stranger.tunnel("node1", forged, server.endpoint.identity, outer=outer)
        await asyncio.sleep(0.5)
        listener.sendto(HONEST, (f"::ffff:{near.ipv4}", 41000))
        async with asyncio.timeout(30):
            received, _ = await asyncio.get_running_loop().sock_recvfrom(opened, 64)
        assert received == HONEST
        opened.sendto(HONEST, (server.ipv4, PORT))
        async with asyncio.timeout(30):
            assert await heard(listener) == HONEST
