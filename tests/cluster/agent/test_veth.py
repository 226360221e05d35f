"""A pod that is connected sends and receives: neither end of its link drops what comes first."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def sent_by(device: str) -> int:
    """Return how many packets a device of this namespace has sent."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    return next(int(line.split()[10]) for line in lines if line.split()[0] == f"{device}:")


def say(namespace: str, device: str, addresses: list[str]) -> int:
    """Send a datagram to each address; return how many left by the device."""
    with inside(netns_path(namespace)):
        before = sent_by(device)
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as voice:
                voice.sendto(b"hello", (address, 9))
        return sent_by(device) - before


def test_no_end_of_a_pods_link_drops_its_first_packets() -> None:
    pods, gateways = ([pair[which] for pair in ADDRESSES] for which in (0, 1))
    said = []
    with inside(netns_path(NODE)):
        wiring = PodLinks(TcBlocks(ingress=1, egress=2))
        with links_come_and_go():
            for number in range(PODS):
                link = PodLink(
                    str(netns_path(POD)), "eth0", "02:aa:00:00:00:01", ADDRESSES, f"lxc{number}", mtu_bytes=1450
                )
                wiring.connect(link)
                said.append((say(POD, "eth0", gateways), say(NODE, link.host_interface, pods)))
                wiring.disconnect(link.host_interface)
        wiring.close()
    assert [each for each in said if each != (2, 2)] == []
