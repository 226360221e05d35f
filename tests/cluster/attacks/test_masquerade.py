"""Masquerading under attack: pods that aim at the node's own ports and identifiers, and pods that
take as many ports as they can.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from cilia.abi import maps
from cilia.datapath.descriptor import get_pinned
from cilia.datapath.maps import Map
from cilia.netns import inside
from laboratory.attempts import patience
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.flood import flooding
from laboratory.layout import netns_path
from laboratory.machine import Machine
from laboratory.pod import Pod
from laboratory.pool import Configuration
from laboratory.wait import wait_until
from services.agent.address import number as address_number
from services.agent.address import packed
from services.agent.loader.nat_ports import LOCAL_PORTS, masquerade_ports

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ALTERS_CLUSTER = True

DNS, PEER = 53, 7777
NARROW = (1024, 65_519)
"""Range of the node's own ports that leaves sixteen to masqueraded flows."""
FEW = range(NARROW[1] + 1, 65_536)
QUOTA = 8
ANSWER_SECONDS = 10.0
ICMP_ECHO, ICMP_ECHO_REPLY = 8, 0
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=1, external_host=True)


@pytest.fixture
def narrow(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """A node of which masqueraded flows have sixteen ports, and each pod half of them."""
    with local_ports(cluster.host("node1"), *NARROW):
        cluster.restart("agent/node1", settings={"nat-quota": str(QUOTA)})
        yield cluster


@contextmanager
def local_ports(host: Machine, first: int, last: int) -> Iterator[None]:
    """Have the node's own connections take other ports for the block."""
    with inside(netns_path(host.network)):
        before = LOCAL_PORTS.read_text()
        LOCAL_PORTS.write_text(f"{first} {last}")
    try:
        yield
    finally:
        with inside(netns_path(host.network)):
            LOCAL_PORTS.write_text(before)


def of(machine: Machine, family: str) -> str:
    return machine.ipv6 if family == "ipv6" else machine.ipv4


def make_pod(cluster: LocalCluster, name: str) -> Pod:
    return cluster.pod("node1", "shop", name, {"app": name})


async def wait_for_range(cluster: LocalCluster, first: int, last: int) -> None:
    """Wait until the programs give the ports of a range to new flows."""
    pin = cluster.layout.pins / "node1" / maps.NAT_PORTS.name
    with Map(get_pinned(pin), maps.NAT_PORTS) as word:

        def is_followed() -> bool:
            ports = word.lookup(0)
            return ports is not None and (ports.first, ports.last) == (first, last)

        await wait_until(is_followed)


@FAMILIES
async def test_new_flows_leave_the_node_its_ports_soon_after_their_range_has_changed(
    cluster: LocalCluster, family: str
) -> None:
    pod, host, world = make_pod(cluster, "client"), cluster.host("node1"), cluster.external_host()
    for local in ((1024, 32_767), (20_000, 65_000)):
        first, last = masquerade_ports(*local)
        with local_ports(host, *local):
            await wait_for_range(cluster, first, last)
            assert first <= await port_seen_by(world, pod, of(world, family)) <= last


async def port_seen_by(server: Machine, client: Machine, address: str) -> int:
    """Return the port by which a datagram of the client comes to the server."""
    with closing(server.open_socket(socket.SOCK_DGRAM, to=address)) as listening:
        listening.bind((address, PEER))
        with closing(client.open_socket(socket.SOCK_DGRAM, to=address)) as opened:
            opened.sendto(b"which?", (address, PEER))
            async with patience(ANSWER_SECONDS):
                _, peer = await asyncio.get_running_loop().sock_recvfrom(listening, 64)
    return int(peer[1])


@contextmanager
def attempts(pod: Pod, address: str, kind: socket.SocketKind, port: int, number: int) -> Iterator[None]:
    """Have a pod speak to one end from as many ports of its own as it wants."""
    with ExitStack() as stack:
        for _ in range(number):
            opened = stack.enter_context(closing(pod.open_socket(kind, to=address)))
            with suppress(BlockingIOError, OSError):
                opened.connect((address, port))
                opened.send(b"mine?")
        yield


async def is_answered_at(client: Machine, kind: socket.SocketKind, local_port: int, address: str, port: int) -> bool:
    """Tell whether a server answers a client that has chosen its own port; what else comes there,
    such as an answer that a pod waited for, is not looked at.
    """
    loop, said = asyncio.get_running_loop(), os.urandom(16)
    with closing(client.open_socket(kind, to=address)) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("", local_port))
        try:
            async with patience(ANSWER_SECONDS):
                await loop.sock_connect(opened, (address, port))
                await loop.sock_sendall(opened, said)
                while await loop.sock_recv(opened, 64) != said:
                    pass
        except (TimeoutError, OSError):
            return False
    return True


@FAMILIES
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
async def test_a_pod_cannot_take_over_what_comes_to_a_service_of_the_node(
    narrow: LocalCluster, family: str, kind: socket.SocketKind
) -> None:
    """The pod chooses whom it speaks to, the client of the service, and takes all ports it can."""
    thief, host, world = make_pod(narrow, "thief"), narrow.host("node1"), narrow.external_host()
    services = tuple(FEW[::2])
    listening = {"tcp" if kind == socket.SOCK_STREAM else "udp": services}
    async with echoing([host], **listening):
        with attempts(thief, of(world, family), kind, PEER, 4 * len(FEW)):
            for port in services:
                assert await is_answered_at(world, kind, PEER, of(host, family), port), port


@FAMILIES
async def test_a_process_of_the_node_gets_its_answers_at_a_port_that_a_pod_had(
    narrow: LocalCluster, family: str
) -> None:
    thief, host, world = make_pod(narrow, "thief"), narrow.host("node1"), narrow.external_host()
    async with echoing([world], udp=(PEER,)):
        with attempts(thief, of(world, family), socket.SOCK_DGRAM, PEER, QUOTA):
            for port in FEW:
                assert await is_answered_at(host, socket.SOCK_DGRAM, port, of(world, family), PEER), port


async def test_a_ping_of_the_node_gets_its_answer_whatever_identifier_it_has(narrow: LocalCluster) -> None:
    thief, host, world = make_pod(narrow, "thief"), narrow.host("node1"), narrow.external_host()
    with closing(thief.open_socket(socket.SOCK_RAW, socket.IPPROTO_ICMP)) as raw:
        for number in range(QUOTA):
            raw.sendto(echo_request(number), (world.ipv4, 0))
        silent = [each for each in FEW if not await is_answered(host, world.ipv4, each)]
    assert silent == []


def echo_request(identifier: int) -> bytes:
    checksum = 0xFFFF - (ICMP_ECHO * 256 + identifier + 1) % 0xFFFF
    return struct.pack("!BBHHH", ICMP_ECHO, 0, checksum, identifier, 1)


async def is_answered(host: Machine, address: str, identifier: int) -> bool:
    loop = asyncio.get_running_loop()
    with closing(host.open_socket(socket.SOCK_RAW, socket.IPPROTO_ICMP)) as raw:
        raw.connect((address, 0))
        try:
            async with patience(ANSWER_SECONDS):
                await loop.sock_sendall(raw, echo_request(identifier))
                while True:
                    answer = (await loop.sock_recv(raw, 1500))[20:]
                    if answer[0] == ICMP_ECHO_REPLY and int.from_bytes(answer[4:6]) == identifier:
                        return True
        except TimeoutError:
            return False


async def unanswered(pod: Pod, address: str, queries: Iterable[int]) -> list[int]:
    """Ask from a fresh port each time; return the questions that got no answer."""
    loop, lost = asyncio.get_running_loop(), []
    for number in queries:
        with closing(pod.open_socket(socket.SOCK_DGRAM, to=address)) as opened:
            opened.connect((address, DNS))
            try:
                async with patience(ANSWER_SECONDS):
                    await loop.sock_sendall(opened, b"%d" % number)
                    await loop.sock_recv(opened, 64)
            except (TimeoutError, OSError):
                lost.append(number)
    return lost


async def wait_for_mappings(cluster: LocalCluster, pod: Pod, number: int) -> None:
    """Wait until a pod has at least so many masqueraded flows."""
    own = [packed(address_number(address)) for address in pod.addresses]
    with Map(get_pinned(cluster.layout.pins / "node1" / maps.NAT.name), maps.NAT) as table:
        await wait_until(lambda: sum(key.local in own for key, _ in table.items()) >= number)


@FAMILIES
async def test_a_pod_that_takes_all_ports_it_can_takes_none_from_another(narrow: LocalCluster, family: str) -> None:
    """Both ask one resolver, by a fresh port each time; the other has sixteen questions in all
    until the first one's first port would be free again.
    """
    flooder, neighbour, world = make_pod(narrow, "flooder"), make_pod(narrow, "neighbour"), narrow.external_host()
    async with echoing([world], udp=(DNS,)):
        with flooding(flooder, of(world, family), DNS, fresh=True):
            await wait_for_mappings(narrow, flooder, QUOTA)
            assert await unanswered(neighbour, of(world, family), range(QUOTA - 1)) == []
