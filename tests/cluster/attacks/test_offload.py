"""Offloads as a way around policy: what a pod asks to have done to its packets later."""

import array
import asyncio
import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from cilia.netns import inside
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.raw_frames import sending_frames

pytestmark = pytest.mark.cluster

ALLOWED, DENIED = 443, 9999
SOL_PACKET, PACKET_VNET_HDR, NEEDS_CHECKSUM = 263, 15, 1
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
ETHERNET, IPV4 = 14, 20
DESTINATION_PORT, CHECKSUM = 2, 6
"""Offsets in a UDP header."""
ONE_PORT = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: one-port, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: attacker}}
  egress: [{toPorts: [{ports: [{port: "443", protocol: UDP}]}]}]
"""


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2)


def set_checksum_offload(opened: socket.socket, device: str, value: int) -> None:
    """Have a device sum up what it sends, or its driver (0)."""
    command = array.array("I", [ETHTOOL_STXCSUM, value])
    request = struct.pack("16sP8x", device.encode(), command.buffer_info()[0])
    fcntl.ioctl(opened, SIOCETHTOOL, request)


@contextmanager
def without_checksum_offload(network: str, device: str) -> Iterator[None]:
    """Have a device of a namespace send packets with their checksums made, as one does that can't
    look into tunnels.
    """
    with inside(netns_path(network)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        set_checksum_offload(opened, device, 0)
    try:
        yield
    finally:
        with inside(netns_path(network)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            set_checksum_offload(opened, device, 1)


def virtio_header(start: int, field: int) -> bytes:
    """Return what asks for a checksum from ``start`` of the frame on, ``field`` bytes behind it."""
    return struct.pack("=BBHHHH", NEEDS_CHECKSUM, 0, 0, 0, start, field)


def internet_sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def whose_checksum_is(port: int, source: str, destination: str) -> bytes:
    """Return a datagram to the allowed port whose sum, from the UDP header on, is ``port``."""
    data = bytes(UDP(sport=40000, dport=ALLOWED, len=16, chksum=0)) + b"hidden"
    missing = (0xFFFF - port - internet_sum(data)) % 0xFFFF
    data += missing.to_bytes(2, "big")
    assert internet_sum(data) ^ 0xFFFF == port
    return bytes(IP(src=source, dst=destination, proto=17) / Raw(data))


async def test_no_checksum_is_written_over_the_port_that_was_judged(cluster: LocalCluster, policies: Policies) -> None:
    attacker = cluster.pod("node1", "shop", "attacker", {"app": "attacker"})
    server = cluster.pod("node2", "shop", "server", {"app": "server"})
    policies.apply(ONE_PORT)
    allowed, denied = (server.listen(port, socket.SOCK_DGRAM) for port in (ALLOWED, DENIED))
    forged = whose_checksum_is(DENIED, attacker.ipv4, server.ipv4)
    honest = bytes(IP(src=attacker.ipv4, dst=server.ipv4) / UDP(sport=40000, dport=ALLOWED) / Raw(b"honest"))
    l4 = ETHERNET + IPV4
    with (
        without_checksum_offload(cluster.layout.namespace("node1"), "eth0"),
        sending_frames(attacker, (SOL_PACKET, PACKET_VNET_HDR, 1)) as sender,
    ):
        sender.send([forged], virtio_header(l4, DESTINATION_PORT))
        sender.send([honest], bytes(10))
        await wait_readable(allowed)
        assert (drained(allowed), drained(denied)) == ([b"honest"], [])
        sender.send([pseudo_summed(attacker.ipv4, server.ipv4)], virtio_header(l4, CHECKSUM))
        await wait_readable(allowed)
        assert drained(allowed) == [b"offloaded!"]


def pseudo_summed(source: str, destination: str) -> bytes:
    """Return a datagram whose checksum is left to the device: the pseudo-header's is there."""
    payload = b"offloaded!"
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack(">HH", 17, 8 + len(payload))
    header = UDP(sport=40000, dport=ALLOWED, len=8 + len(payload), chksum=internet_sum(pseudo))
    return bytes(IP(src=source, dst=destination, proto=17) / Raw(bytes(header) + payload))


def drained(opened: socket.socket) -> list[bytes]:
    """Return the datagrams that have arrived."""
    found = []
    while True:
        try:
            found.append(opened.recv(2000))
        except BlockingIOError:
            return found


async def wait_readable(opened: socket.socket) -> None:
    """Wait until a socket has something to read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(opened, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), 20)
    finally:
        loop.remove_reader(opened)
