"""Jumbo frames: an underlay of 9,000 bytes, which agents find when they start."""

import asyncio
import subprocess
from contextlib import closing

import pytest

from laboratory.bulk_transfer import transfer
from laboratory.cluster import LocalCluster
from laboratory.machine import Machine
from laboratory.namespaces import ip
from tests.cluster.routing.peers import PORT, Peers, answering, is_native, make_peers, unfragmented

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ALTERS_CLUSTER = True

UNDERLAY_BYTES = 9000
VXLAN_OVERHEAD_BYTES = 50
TRANSFER_PORT = 7200
HEADERS_BYTES = {"ipv4": 28, "ipv6": 48}
"""Length of the headers of IP and UDP."""


@pytest.fixture(scope="module")
def shared_peers(shared: LocalCluster) -> Peers:
    """Pods that were made after the underlay was widened."""
    hub = shared.layout.hub
    for node in shared.state.nodes:
        ip(f"-n {hub}", [f"link set to-{node.name} mtu {UNDERLAY_BYTES}"])
        ip(f"-n {shared.layout.namespace(node.name)}", [f"link set eth0 mtu {UNDERLAY_BYTES}"])
    ip(f"-n {hub}", [f"link set to-world mtu {UNDERLAY_BYTES}"])
    ip(f"-n {shared.layout.external_host}", [f"link set eth0 mtu {UNDERLAY_BYTES}"])
    for node in shared.state.nodes:
        shared.restart(f"agent/{node.name}")
    return make_peers(shared)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("where", ["pod, same node", "pod, across", "host", "remote host", "world"])
async def test_the_longest_packet_travels_whole_both_ways_and_none_longer(
    shared: LocalCluster, peers: Peers, where: str, family: str
) -> None:
    server = peers.others()[where]
    fits = pods_mtu(shared) - HEADERS_BYTES[family]
    async with answering([server]):
        with closing(unfragmented(peers.client, getattr(server, family), PORT)) as opened:
            opened.send(bytes(fits))
            assert len(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(opened, UNDERLAY_BYTES), 2)) == fits
            with pytest.raises(OSError, match="Message too long"):
                opened.send(bytes(fits + 1))
    assert reassembled(peers.client, family) == 0


@pytest.mark.parametrize("where", ["pod, same node", "pod, across", "world"])
async def test_a_transfer_by_segments_of_that_length_arrives_whole(peers: Peers, where: str) -> None:
    server = peers.others()[where]
    done = await transfer(peers.client, server, server.ipv4, TRANSFER_PORT, megabytes=50)
    assert (done.bytes_received, done.received) == (50 << 20, done.sent)


def pods_mtu(cluster: LocalCluster) -> int:
    return UNDERLAY_BYTES - (0 if is_native(cluster) else VXLAN_OVERHEAD_BYTES)


def reassembled(machine: Machine, family: str) -> int:
    """Return how many packets a machine has put together from fragments."""
    name = "Ip6ReasmReqds" if family == "ipv6" else "IpReasmReqds"
    command = ["ip", "netns", "exec", machine.network, "nstat", "-asz", name]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(next(line.split()[1] for line in shown.splitlines() if line.startswith(name)))
