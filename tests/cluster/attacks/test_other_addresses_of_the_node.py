"""Addresses of a node beside the one it is configured with: all are the host's, from the moment
when it has them until it has them no more.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.machine import Machine
from laboratory.namespaces import ip
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.wait import wait_until
from tests.cluster.attacks.datagrams import HOST_ONLY, PORT, only_honest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NEW = {
    "secondary, on the uplink": ("172.31.200.1/16", "eth0"),
    "secondary, of IPv6": ("fd00:31::c8:1/64", "eth0"),
    "virtual, on the loopback device": ("10.99.0.1/32", "lo"),
    "virtual, of IPv6": ("fd00:99::1/128", "lo"),
    "a bridge's": ("172.17.0.1/16", "bridge9"),
    "a bridge's, of IPv6": ("fd00:17::1/64", "bridge9"),
}
NOT_THE_HOST = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: not-the-host, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toCIDR: [0.0.0.0/0, "::/0"]}, {toEntities: [world]}]
  egressDeny: [{toEntities: [host]}]
"""
TO_HOST = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: to-host, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEntities: [host]}]
"""
SECONDS = 0.5


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2)


@contextmanager
def having(cluster: LocalCluster, cidr: str, device: str) -> Iterator[str]:
    """Give a node an address for the block, on a device that may be new; yields it."""
    options = f"-n {cluster.layout.namespace('node1')}"
    is_new = device == "bridge9"
    ip(options, ["link add bridge9 type bridge", "link set bridge9 up"] if is_new else [])
    try:
        ip(options, [f"addr add {cidr} dev {device}" + (" nodad" if ":" in cidr else "")])
        yield cidr.partition("/")[0]
    finally:
        ip(options, ["link del bridge9"] if is_new else [f"addr del {cidr} dev {device}"])


async def reached(client: Pod, address: str) -> bool:
    return await reaches_tcp(client, address, PORT, seconds=SECONDS)


@pytest.mark.parametrize(("cidr", "device"), NEW.values(), ids=NEW)
async def test_a_new_address_is_the_hosts_while_the_node_has_it(
    cluster: LocalCluster, policies: Policies, cidr: str, device: str
) -> None:
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    host = cluster.host("node1")
    policies.apply(TO_HOST)
    with having(cluster, cidr, device) as address:
        async with echoing([host], tcp=(PORT,)):
            await wait_until(lambda: reached(client, address))
            policies.delete("CiliumNetworkPolicy/shop/to-host")
            policies.apply(NOT_THE_HOST)
            assert not await reached(client, address), "what denies the host denies it by all of its addresses"


@pytest.mark.parametrize(("cidr", "device"), NEW.values(), ids=NEW)
async def test_the_host_talks_from_a_new_address_as_the_host(
    cluster: LocalCluster, policies: Policies, cidr: str, device: str
) -> None:
    server = cluster.pod("node1", "shop", "server", {"app": "server"})
    policies.apply(HOST_ONLY)
    listener = server.listen(PORT, socket.SOCK_DGRAM)
    with having(cluster, cidr, device) as address:
        host = cluster.host("node1")
        target = server.ipv6 if ":" in address else server.ipv4

        async def answered() -> bool:
            return await answers_from(host, address, listener, target)

        await wait_until(answered)


async def answers_from(host: Machine, address: str, listener: socket.socket, target: str) -> bool:
    """Tell whether a datagram that the host sends from an address arrives."""
    with host.open_socket(socket.SOCK_DGRAM, to=target) as opened:
        opened.bind((address, 0))
        opened.sendto(b"probe", (target, PORT))
    try:
        return listener.recv(64) == b"probe"
    except BlockingIOError:
        return False


FROM_NODES = HOST_ONLY.replace("[host]", "[remote-node]").replace("host-only", "from-nodes")
ACROSS = {name: new for name, new in NEW.items() if "bridge" not in name}


@pytest.mark.parametrize(("cidr", "device"), ACROSS.values(), ids=ACROSS)
async def test_another_nodes_pods_know_a_new_address_as_a_nodes(
    cluster: LocalCluster, policies: Policies, cidr: str, device: str
) -> None:
    server = cluster.pod("node2", "shop", "server", {"app": "server"})
    policies.apply(FROM_NODES)
    listener = server.listen(PORT, socket.SOCK_DGRAM)
    with having(cluster, cidr, device) as address:
        host = cluster.host("node1")
        target = server.ipv6 if ":" in address else server.ipv4

        async def answered() -> bool:
            return await answers_from(host, address, listener, target)

        await wait_until(answered)


async def test_no_broadcast_or_multicast_of_a_pod_reaches_the_host(cluster: LocalCluster, policies: Policies) -> None:
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    host = cluster.host("node1")
    with host.open_socket(socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", PORT))
        with client.open_socket(socket.SOCK_DGRAM) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for address in ("172.31.255.255", "255.255.255.255", "224.0.0.1"):
                opened.sendto(b"forged", (address, PORT))
        await only_honest(listener, client, host.ipv4)
