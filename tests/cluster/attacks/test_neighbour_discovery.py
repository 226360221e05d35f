"""Neighbour discovery as a way around policy: what a pod advertises ends at its node."""

import socket
from contextlib import closing

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6

from laboratory.attempts import reaches_udp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.raw_frames import sending_frames
from laboratory.wait import wait_until

pytestmark = pytest.mark.cluster

ADVERTISEMENT = 136
ONLY_DNS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: only-dns, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{toPorts: [{ports: [{port: "53", protocol: UDP}]}]}]
"""


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=1)


async def test_advertisements_carry_nothing_to_another_pod(cluster: LocalCluster, policies: Policies) -> None:
    server = cluster.pod("node1", "shop", "server", {"app": "server"})
    attacker = cluster.pod("node1", "shop", "attacker", {"app": "attacker"})
    policies.apply(ONLY_DNS)
    head = IPv6(src=attacker.ipv6, dst=server.ipv6, hlim=255)
    with closing(server.open_socket(socket.SOCK_RAW, socket.IPPROTO_ICMPV6, to=server.ipv6)) as heard:
        with sending_frames(attacker) as sender:
            sender.send([bytes(head / ICMPv6ND_NA(tgt=target)) for target in (attacker.ipv6, server.ipv6)])
        async with echoing([server], udp=(53,)):
            await wait_until(lambda: reaches_udp(attacker, server.ipv6, 53))
        assert [message for message in messages(heard) if message[0] == ADVERTISEMENT] == []


def messages(opened: socket.socket) -> list[bytes]:
    """Return the ICMP messages that have arrived."""
    found = []
    while True:
        try:
            found.append(opened.recv(2000))
        except BlockingIOError:
            return found
