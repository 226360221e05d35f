"""Two pods of one node as the data plane sees them: devices, packets between them, and what its maps hold of them."""

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from cilia.abi import maps
from cilia.abi.enums import PolicyDirection, PolicyShape
from cilia.abi.structs import Endpoint, EndpointKey, PolicyEntry, PolicyKey, PolicyVersion, Subject
from cilia.datapath.objects import LoadedObject

CLONE_NEWNET: Final = 0x40000000
SERVER_PORT: Final = 80
TCP_SYN, TCP_ACK = 0x02, 0x10


class Pod(NamedTuple):
    """A pod of this node."""

    name: str
    ifindex: int
    address: str
    mac: bytes
    identity: int
    slot: int


@contextmanager
def own_network() -> Iterator[None]:
    """Run in a network namespace that ends with the block, with all devices made in it; for the calling thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        yield
    finally:
        if libc.setns(before, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(before)


def make_pods() -> tuple[Pod, Pod]:
    """Make the devices of two pods in this network namespace: a client, a server."""
    return _make_pod("client", 1), _make_pod("server", 2)


def _make_pod(name: str, number: int) -> Pod:
    subprocess.run(["ip", "link", "add", name, "up", "type", "veth", "peer", "name", f"{name}-pod"], check=True)
    subprocess.run(["ip", "link", "set", f"{name}-pod", "up"], check=True)
    mac = bytes([2, 0, 0, 0, 0, number])
    return Pod(name, socket.if_nametoindex(name), f"10.0.1.{number * 10}", mac, 1000 + number, number)


def frame(source: Pod, destination: Pod, ports: tuple[int, int], flags: int = TCP_ACK) -> bytes:
    """Give a frame of 118 bytes: Ethernet, IPv4, TCP, 64 bytes of payload. Checksums are 0: nothing looks at them."""
    ethernet = struct.pack("!6s6sH", b"\x02cilia", source.mac, 0x0800)
    addresses = socket.inet_aton(source.address), socket.inet_aton(destination.address)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 104, 1, 0x4000, 64, socket.IPPROTO_TCP, 0, *addresses)
    return ethernet + ip + struct.pack("!HHIIBBHHH", *ports, 1, 1, 0x50, flags, 64, 0, 0) + bytes(64)


def realise(loaded: LoadedObject, client: Pod, server: Pod, fillers: int = 0) -> None:
    """Let the client reach the server's port, and nothing else.

    Args:
        fillers: Entries beside that one for each subject, of peers that don't exist.
    """
    shapes = 1 << PolicyShape.PORT | 1 << PolicyShape.PROTOCOL | 1 << PolicyShape.ANY
    version = PolicyVersion(revision=1, set=0, audit=0, shapes=shapes)
    never = PolicyVersion(0, 0, 0, 0)
    with loaded.map(maps.ENDPOINTS) as endpoints, loaded.map(maps.SUBJECTS) as subjects:
        for pod in (client, server):
            key = EndpointKey(bytes(10) + b"\xff\xff" + socket.inet_aton(pod.address))
            endpoints.update(key, Endpoint(pod.ifindex, pod.identity, pod.slot, pod.slot, pod.mac))
            subjects.update(pod.slot, Subject(version, never, 0, pod.identity))
    sides = (client, server, PolicyDirection.EGRESS), (server, client, PolicyDirection.INGRESS)
    with loaded.map(maps.POLICY) as policy:
        for subject, peer, direction in sides:
            identities = [peer.identity, *range(20_000, 20_000 + fillers)]
            policy.update_many((_port_key(subject.slot, direction, one), PolicyEntry(1, 7, 0, 0)) for one in identities)


def _port_key(slot: int, direction: PolicyDirection, identity: int) -> PolicyKey:
    return PolicyKey(slot, 0, direction, identity, SERVER_PORT, socket.IPPROTO_TCP, PolicyShape.PORT)
