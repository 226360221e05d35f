"""Headers that a pod hides from the data plane and the receiver's kernel finds: none reaches a port
that policy denies.
"""

import asyncio
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Raw

from laboratory.cluster import LocalCluster
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.raw_frames import sending_frames

pytestmark = pytest.mark.cluster

ALLOWED, DENIED = 80, 9999
EXPERIMENT = 0x1E
"""Option of RFC 4727, unknown to everybody; Linux refuses longer padding."""
ONE_PORT = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: one-port, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: attacker}}]
    toPorts: [{ports: [{port: "80", protocol: UDP}]}]
"""


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2)


@pytest.fixture
def server(cluster: LocalCluster, policies: Policies) -> Pod:
    pod = cluster.pod("node1", "shop", "server", {"app": "server"})
    policies.apply(ONE_PORT)
    return pod


@pytest.fixture(params=["node1", "node2"], ids=["the same node", "another node"])
def attacker(cluster: LocalCluster, request: pytest.FixtureRequest, server: Pod) -> Pod:
    return cluster.pod(request.param, "shop", "attacker", {"app": "attacker"})


def options(following: int, bytes_: int) -> IPv6ExtHdrDestOpt:
    """Return destination options of a length, which receivers pass over, and before what."""
    return IPv6ExtHdrDestOpt(nh=following, options=[HBHOptUnknown(otype=EXPERIMENT, optdata=bytes(bytes_ - 4))])


def hidden_behind_options(source: str, destination: str, *, port: int) -> list[bytes]:
    """Return two fragments: the first ends behind its destination options, and its frame goes on
    with others and the allowed port; the second has the real ones.
    """
    head = IPv6(src=source, dst=destination) / IPv6ExtHdrFragment(id=1, m=1, nh=60) / options(60, 24)
    shown = bytes(options(17, 8)) + bytes(UDP(sport=40000, dport=ALLOWED, len=100, chksum=1))
    hidden = UDP(sport=40000, dport=port) / Raw(b"hidden")
    whole = IPv6(src=source, dst=destination) / hidden  # for its checksum
    tail = IPv6ExtHdrFragment(id=1, offset=3, m=0, nh=17) / Raw(bytes(options(17, 8)) + bytes(whole)[40:])
    return [bytes(head) + shown, bytes(IPv6(src=source, dst=destination) / tail)]


def fragments(source: str, destination: str) -> list[bytes]:
    """Return an honest datagram to the allowed port, in two fragments."""
    data = UDP(sport=40001, dport=ALLOWED) / Raw(bytes(24) + b"honest")
    if ":" not in source:
        whole = bytes(IP(src=source, dst=destination) / data)[20:]
        first = IP(src=source, dst=destination, id=2, flags="MF", proto=17) / Raw(whole[:24])
        return [bytes(first), bytes(IP(src=source, dst=destination, id=2, frag=3, proto=17) / Raw(whole[24:]))]
    whole = bytes(IPv6(src=source, dst=destination) / data)[40:]
    parts = IPv6ExtHdrFragment(id=2, m=1, nh=17), IPv6ExtHdrFragment(id=2, offset=3, nh=17)
    payloads = whole[:24], whole[24:]
    return [
        bytes(IPv6(src=source, dst=destination) / part / Raw(payload))
        for part, payload in zip(parts, payloads, strict=True)
    ]


def received(opened: socket.socket) -> list[bytes]:
    """Return the datagrams that have arrived."""
    found = []
    while True:
        try:
            found.append(opened.recv(2000))
        except BlockingIOError:
            return found


async def test_a_header_in_the_second_fragment_reaches_no_denied_port(attacker: Pod, server: Pod) -> None:
    allowed, denied = (server.listen(port, socket.SOCK_DGRAM) for port in (ALLOWED, DENIED))
    with sending_frames(attacker) as sender:
        sender.send(hidden_behind_options(attacker.ipv6, server.ipv6, port=DENIED))
        sender.send(fragments(attacker.ipv6, server.ipv6))
        await asyncio.wait_for(readable(allowed), 20)
        assert [data[-6:] for data in received(allowed)] == [b"honest"]
        assert received(denied) == []


async def test_fragments_of_both_families_reach_the_port_that_policy_allows(attacker: Pod, server: Pod) -> None:
    allowed = server.listen(ALLOWED, socket.SOCK_DGRAM)
    with sending_frames(attacker) as sender:
        for source, destination in zip(attacker.addresses, server.addresses, strict=True):
            sender.send(fragments(source, destination))
            await asyncio.wait_for(readable(allowed), 20)
            assert [data[-6:] for data in received(allowed)] == [b"honest"]


async def readable(opened: socket.socket) -> None:
    """Wait until a socket has something to read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(opened, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(opened)
