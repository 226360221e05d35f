"""Masquerading on real traffic to the world, by a router without routes to pods."""

import asyncio
import errno
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from laboratory.bulk_transfer import transfer
from laboratory.cluster import LocalCluster
from laboratory.external_host import PORT
from laboratory.machine import Machine
from laboratory.wait import wait_until
from services.agent.loader.nat_ports import local_ports, masquerade_ports
from tests.cluster.routing.peers import PORT as ECHO
from tests.cluster.routing.peers import WAYS, Peers, answering, is_native, reached, unfragmented

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SERVICE, CLOSED, TRANSFER = 7300, 7301, 7302
IP_MTU, IPV6_MTU = 14, 24
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
NARROW_BYTES = 1300


def ip(namespace: str, arguments: str) -> str:
    return subprocess.run(
        ["ip", "-n", namespace, *arguments.split()], check=True, capture_output=True, text=True
    ).stdout


async def peer_seen_by(server: Machine, client: Machine, address: str, *, local_port: int = 0) -> tuple[str, int]:
    """Return the client's address and port as the server sees them, on one TCP connection to its
    ``address``.
    """
    loop = asyncio.get_running_loop()
    with (
        closing(server.listen(SERVICE)) as listening,
        closing(client.open_socket(socket.SOCK_STREAM, to=address)) as opened,
    ):
        if local_port:
            opened.bind(("", local_port))
        async with asyncio.timeout(30):
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await loop.sock_connect(opened, (address, SERVICE))
            accepted, peer = await accepting
        accepted.close()
    return str(peer[0]).removeprefix("::ffff:"), int(peer[1])


def of(machine: Machine, family: str) -> str:
    return machine.ipv6 if family == "ipv6" else machine.ipv4


@FAMILIES
async def test_the_world_sees_the_node_and_a_port_that_no_socket_of_the_node_takes(peers: Peers, family: str) -> None:
    first_port, last_port = masquerade_ports(*local_ports())
    address, port = await peer_seen_by(peers.external_host, peers.client, of(peers.external_host, family))
    assert address == of(peers.host, family)
    assert port in range(first_port, last_port + 1)


@FAMILIES
async def test_pods_see_each_other_by_their_own_addresses(peers: Peers, family: str) -> None:
    for port, server in ((5001, peers.far), (5002, peers.near)):
        seen = await peer_seen_by(server, peers.client, of(server, family), local_port=port)
        assert seen == (of(peers.client, family), port)


@FAMILIES
async def test_another_node_sees_the_node_with_an_overlay_and_the_pod_without(
    shared: LocalCluster, peers: Peers, family: str
) -> None:
    address, _ = await peer_seen_by(peers.remote_host, peers.client, of(peers.remote_host, family))
    assert address == of(peers.client if is_native(shared) else peers.host, family)


@FAMILIES
async def test_two_pods_with_the_same_port_and_identifier_are_kept_apart(peers: Peers, family: str) -> None:
    loop = asyncio.get_running_loop()
    clients, world = (peers.client, peers.near), of(peers.external_host, family)
    async with answering([peers.external_host]):
        sockets = [client.open_socket(socket.SOCK_DGRAM, to=world) for client in clients]
        for number, opened in enumerate(sockets):
            opened.bind(("", 5003))
            opened.connect((world, ECHO))
            await loop.sock_sendall(opened, b"from %d" % number)
        async with asyncio.timeout(30):
            answers = [await loop.sock_recv(opened, 64) for opened in sockets]
        for opened in sockets:
            opened.close()
        assert answers == [b"from 0", b"from 1"]
        assert await asyncio.gather(*(reached(client, peers.external_host) for client in clients)) == [set(WAYS)] * 2


@FAMILIES
async def test_an_error_of_the_world_reaches_the_pod_that_it_is_about(peers: Peers, family: str) -> None:
    world = of(peers.external_host, family)
    with closing(peers.client.open_socket(socket.SOCK_DGRAM, to=world)) as opened:
        opened.connect((world, CLOSED))
        opened.send(b"is anybody there?")
        assert await error_of(opened) == errno.ECONNREFUSED


async def error_of(opened: socket.socket) -> int:
    """Wait for an error of a socket and return it."""
    return await wait_until(lambda: opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@contextmanager
def narrow(cluster: LocalCluster) -> Iterator[None]:
    """Have the link behind the router carry less than the nodes' link for the block."""
    world, hub = cluster.layout.external_host, cluster.layout.hub
    ip(hub, f"link set {PORT} mtu {NARROW_BYTES}")
    ip(world, f"link set eth0 mtu {NARROW_BYTES}")
    try:
        yield
    finally:
        ip(hub, f"link set {PORT} mtu 1500")
        ip(world, "link set eth0 mtu 1500")


@FAMILIES
async def test_a_pod_learns_the_path_s_mtu_from_a_router_beyond_its_node(
    shared: LocalCluster, peers: Peers, family: str
) -> None:
    world = of(peers.external_host, family)
    with narrow(shared), closing(unfragmented(peers.client, world, CLOSED)) as opened:
        opened.send(bytes(1400))
        assert await error_of(opened) == errno.EMSGSIZE
        assert path_mtu(opened) == NARROW_BYTES
        done = await transfer(peers.client, peers.external_host, world, TRANSFER, megabytes=5)
        assert done.received == done.sent
    for version in ("-4", "-6"):
        ip(peers.client.network, f"{version} route flush cache")


@FAMILIES
async def test_a_pod_can_t_send_more_to_another_node_than_the_tunnel_carries(
    shared: LocalCluster, peers: Peers, family: str
) -> None:
    """The pod's own link has that MTU, so its kernel refuses at once."""
    fits = (1500 if is_native(shared) else 1450) - (48 if family == "ipv6" else 28)
    with closing(unfragmented(peers.client, of(peers.far, family), CLOSED)) as opened:
        opened.send(bytes(fits))
        with pytest.raises(OSError, match="Message too long"):
            opened.send(bytes(fits + 1))


def path_mtu(opened: socket.socket) -> int:
    """Return the MTU of a connected socket's path as its kernel knows it."""
    if opened.family == socket.AF_INET6:
        return opened.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    return opened.getsockopt(socket.IPPROTO_IP, IP_MTU)


@contextmanager
def known_route(cluster: LocalCluster, pod: Machine, node: Machine) -> Iterator[None]:
    """Have the router know the way to a pod for the block."""
    ways = [f"{pod.ipv4}/32 via {node.ipv4}", f"{pod.ipv6}/128 via {node.ipv6}"]
    for way in ways:
        ip(cluster.layout.hub, f"route add {way}")
    try:
        yield
    finally:
        for way in ways:
            ip(cluster.layout.hub, f"route del {way}")


async def test_who_knows_a_pod_by_its_address_is_answered_from_it(shared: LocalCluster, peers: Peers) -> None:
    with known_route(shared, peers.client, peers.host):
        async with answering([peers.client]):
            assert await reached(peers.external_host, peers.client) == set(WAYS)


async def test_an_excluded_network_sees_pods_by_their_own_addresses(shared: LocalCluster, peers: Peers) -> None:
    async def seen() -> list[str]:
        return [
            (await peer_seen_by(peers.external_host, peers.client, each))[0] for each in peers.external_host.addresses
        ]

    networks = "198.51.100.0/24,2001:db8:100::/64"
    with known_route(shared, peers.client, peers.host), excluding(shared, networks):
        assert await seen() == [peers.client.ipv4, peers.client.ipv6]

    async def sees_the_node() -> bool:
        return await seen() == [peers.host.ipv4, peers.host.ipv6]

    await wait_until(sees_the_node)  # the restarted agent hears the tables before it removes anything


@contextmanager
def excluding(cluster: LocalCluster, networks: str) -> Iterator[None]:
    """Run the first node's agent with networks excluded from masquerading for the block."""
    cluster.restart("agent/node1", settings={"masquerade-exclude": networks})
    try:
        yield
    finally:
        cluster.restart("agent/node1")
