"""What the world sees of pods, and what comes back to them, on real traffic through a router that knows no pod."""

import asyncio
import errno
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from cilia.cluster.local import LocalCluster
from cilia.cluster.machine import Machine
from cilia.cluster.transfer import transfer
from cilia.cluster.world import ADDRESS, PORT, PREFIX
from tests.cluster.routing.places import PROTOCOLS, Places, answering, reached

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

SERVICE, CLOSED, TRANSFER = 7300, 7301, 7302
IP_MTU, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 14, 10, 2
NARROW_BYTES = 1300


def ip(namespace: str, arguments: str) -> str:
    return subprocess.run(
        ["ip", "-n", namespace, *arguments.split()], check=True, capture_output=True, text=True
    ).stdout


async def peer_seen_by(server: Machine, client: Machine, *, local_port: int = 0) -> tuple[str, int]:
    """Return the client's address and port as the server sees them, on one TCP connection."""
    loop = asyncio.get_running_loop()
    with closing(server.listen(SERVICE)) as listening, closing(client.open_socket(socket.SOCK_STREAM)) as opened:
        if local_port:
            opened.bind(("0.0.0.0", local_port))
        async with asyncio.timeout(3):
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await loop.sock_connect(opened, (server.ipv4, SERVICE))
            accepted, peer = await accepting
        accepted.close()
    return str(peer[0]), int(peer[1])


async def test_the_world_sees_the_node_and_a_port_that_no_socket_of_the_node_takes(places: Places) -> None:
    address, port = await peer_seen_by(places.world, places.client)
    assert address == places.host.ipv4
    assert port >= 61000


async def test_pods_see_each_other_by_their_own_addresses(places: Places) -> None:
    assert (await peer_seen_by(places.far, places.client, local_port=5001)) == (places.client.ipv4, 5001)
    assert (await peer_seen_by(places.near, places.client, local_port=5002)) == (places.client.ipv4, 5002)


async def test_another_node_sees_the_node_with_an_overlay_and_the_pod_without(
    shared: LocalCluster, places: Places
) -> None:
    address, _ = await peer_seen_by(places.remote_host, places.client)
    assert address == (places.client.ipv4 if is_native(shared) else places.host.ipv4)


async def test_two_pods_with_the_same_port_and_identifier_are_kept_apart(places: Places) -> None:
    loop = asyncio.get_running_loop()
    clients = (places.client, places.near)
    async with answering([places.world]):
        sockets = [client.open_socket(socket.SOCK_DGRAM) for client in clients]
        for number, opened in enumerate(sockets):
            opened.bind(("0.0.0.0", 5003))
            opened.connect((places.world.ipv4, 7000))
            await loop.sock_sendall(opened, b"from %d" % number)
        async with asyncio.timeout(3):
            answers = [await loop.sock_recv(opened, 64) for opened in sockets]
        for opened in sockets:
            opened.close()
        assert answers == [b"from 0", b"from 1"]
        assert await asyncio.gather(*(reached(client, places.world) for client in clients)) == [set(PROTOCOLS)] * 2


async def test_an_error_of_the_world_reaches_the_pod_that_it_is_about(places: Places) -> None:
    with closing(places.client.open_socket(socket.SOCK_DGRAM)) as opened:
        opened.connect((places.world.ipv4, CLOSED))
        opened.send(b"is anybody there?")
        assert await error_of(opened) == errno.ECONNREFUSED


async def error_of(opened: socket.socket) -> int:
    """Wait for an error of a socket and return it, 0 if none comes."""
    for _ in range(60):
        if error := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return error
        await asyncio.sleep(0.05)
    return 0


@contextmanager
def narrow(cluster: LocalCluster) -> Iterator[None]:
    """Have the link between the router and the world carry less than the nodes' link for the block."""
    world, hub = cluster.layout.world, cluster.layout.hub
    ip(hub, f"link set {PORT} mtu {NARROW_BYTES}")
    ip(world, f"link set eth0 mtu {NARROW_BYTES}")
    try:
        yield
    finally:
        ip(hub, f"link set {PORT} mtu 1500")
        ip(world, "link set eth0 mtu 1500")


async def test_a_pod_learns_the_path_s_mtu_from_a_router_beyond_its_node(shared: LocalCluster, places: Places) -> None:
    with narrow(shared), closing(places.client.open_socket(socket.SOCK_DGRAM)) as opened:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        opened.connect((places.world.ipv4, CLOSED))
        opened.send(bytes(1400))
        assert await error_of(opened) == errno.EMSGSIZE
        assert opened.getsockopt(socket.IPPROTO_IP, IP_MTU) == NARROW_BYTES
        done = await transfer(places.client, places.world, places.world.ipv4, TRANSFER, megabytes=5)
        assert done.received == done.sent
    ip(places.client.network, "route flush cache")


async def test_a_pod_can_t_send_more_to_another_node_than_the_tunnel_carries(
    shared: LocalCluster, places: Places
) -> None:
    """The pod's own link has that MTU, so its kernel refuses at once."""
    fits = 1500 if is_native(shared) else 1450
    with closing(places.client.open_socket(socket.SOCK_DGRAM)) as opened:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        opened.connect((places.far.ipv4, CLOSED))
        opened.send(bytes(fits - 28))
        with pytest.raises(OSError, match="Message too long"):
            opened.send(bytes(fits - 27))


@contextmanager
def known_route(cluster: LocalCluster, pod: str, node: Machine) -> Iterator[None]:
    """Have the router know the way to a pod for the block."""
    ip(cluster.layout.hub, f"route add {pod}/32 via {node.ipv4}")
    try:
        yield
    finally:
        ip(cluster.layout.hub, f"route del {pod}/32")


async def test_who_knows_a_pod_by_its_address_is_answered_from_it(shared: LocalCluster, places: Places) -> None:
    with known_route(shared, places.client.ipv4, places.host):
        async with answering([places.client]):
            assert await reached(places.world, places.client) == set(PROTOCOLS)


async def test_an_excluded_network_sees_pods_by_their_own_addresses(shared: LocalCluster, places: Places) -> None:
    network = str(ADDRESS).rsplit(".", 1)[0] + f".0/{PREFIX}"
    with known_route(shared, places.client.ipv4, places.host), excluding(shared, network):
        assert (await peer_seen_by(places.world, places.client))[0] == places.client.ipv4
    for _ in range(50):  # the restarted agent hears the tables before it removes anything
        address, _ = await peer_seen_by(places.world, places.client)
        if address == places.host.ipv4:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the world still sees {address}")


@contextmanager
def excluding(cluster: LocalCluster, network: str) -> Iterator[None]:
    """Run the first node's agent with a network excluded from masquerading for the block."""
    cluster.restart("agent/node1", settings={"masquerade-exclude": network})
    try:
        yield
    finally:
        cluster.restart("agent/node1")


def is_native(cluster: LocalCluster) -> bool:
    return "native" in cluster.process("agent/node1").command
