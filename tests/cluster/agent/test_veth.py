"""A pod that is connected sends and receives: neither end of its link drops what comes first."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from cilia.netns import inside
from laboratory.layout import netns_path
from laboratory.namespaces import create_namespace, delete_namespace
from services.agent.endpoint.veth import PodLink, PodLinks
from services.agent.netlink.tc import TcBlocks

pytestmark = pytest.mark.cluster

TAG = f"cilia-wire-{os.getpid()}"
NODE, POD, OTHERS = (f"{TAG}.{name}" for name in ("node", "pod", "others"))
PODS = 30
ADDRESSES = (("10.9.0.2", "10.9.0.1"), ("fd00:9::2", "fd00:9::1"))
VOICE = b"is anybody there"
ETH_P_ALL = 3
EVERY_PROTOCOL = socket.htons(ETH_P_ALL)
SECONDS = 2.0
"""Longest wait for a packet that was not lost."""
CHURN = ["link add one type veth peer name two", "link set one up", "link set two up", "link del one"]


@pytest.fixture(autouse=True)
def namespaces() -> Iterator[None]:
    names = (NODE, POD, OTHERS)
    try:
        for name in names:
            create_namespace(name)
        yield
    finally:
        for name in names:
            delete_namespace(name)


@contextmanager
def links_come_and_go() -> Iterator[None]:
    """Have the kernel told of so many other links that it gets to ours late."""
    script = f"while :; do printf '%s\\n' {' '.join(map(repr, CHURN))} | ip -n {OTHERS} -batch -; done"
    busy = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        yield
    finally:
        os.killpg(busy.pid, 9)
        busy.wait()


def say(namespace: str, device: str, addresses: list[str]) -> int:
    """Send a datagram to each address; return how many of them left by the device.

    A device without a carrier, or whose queue isn't set up, drops a packet before sockets of this
    kind see it. What the kernel itself sends meanwhile doesn't count.
    """
    with inside(netns_path(namespace)), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, EVERY_PROTOCOL) as tap:
        tap.bind((device, ETH_P_ALL))
        tap.settimeout(SECONDS)
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as voice:
                voice.sendto(VOICE, (address, 9))
        left = 0
        with suppress(TimeoutError):
            while left < len(addresses):
                left += tap.recv(2048).endswith(VOICE)
        return left


def test_no_end_of_a_pods_link_drops_its_first_packets() -> None:
    pods, gateways = ([pair[which] for pair in ADDRESSES] for which in (0, 1))
    said = []
    with inside(netns_path(NODE)):
        links = PodLinks(TcBlocks(ingress=1, egress=2))
        with links_come_and_go():
            for number in range(PODS):
                link = PodLink(
                    str(netns_path(POD)), "eth0", "02:aa:00:00:00:01", ADDRESSES, f"lxc{number}", mtu_bytes=1450
                )
                links.connect(link)
                said.append((say(POD, "eth0", gateways), say(NODE, link.host_interface, pods)))
                links.disconnect(link.host_interface)
        links.close()
    assert [each for each in said if each != (2, 2)] == []
