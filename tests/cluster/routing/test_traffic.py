"""Real traffic between all peers in a cluster, in each routing mode, with and without policies
that deny.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from laboratory.attempts import reaches_udp
from laboratory.bulk_transfer import transfer
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path
from laboratory.machine import Machine
from laboratory.policies import Policies
from tests.cluster.routing.peers import ALL, NONE, PORT, WAYS, Peers, answering, is_native, reached, reached_by

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
LOAD_PORTS = ("7101", "7102", "7103", "7104", "7105")
TRANSFER_PORT = 7200
TO_ENTITY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEntities: [%s]
"""
ALLOWED_BY = {
    "host": {"host"},
    "remote-node": {"remote host"},
    "world": {"world"},
    "cluster": {"pod, same node", "pod, across", "host", "remote host"},
}
FROM_ENTITY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEntities: [%s]
"""
UDP_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEntities: [all]
    toPorts: [{ports: [{port: "%d", protocol: UDP}]}]
"""


async def test_a_pod_reaches_pods_hosts_and_the_world(peers: Peers) -> None:
    others = peers.others()
    async with answering(others.values()):
        assert await reached_by(peers.client, others) == dict.fromkeys(others, ALL)


async def test_a_host_reaches_its_own_pods_and_those_of_other_nodes(peers: Peers) -> None:
    pods = {"its own": peers.near, "across": peers.far}
    async with answering(pods.values()):
        assert await reached_by(peers.host, pods) == dict.fromkeys(pods, ALL)


@pytest.mark.parametrize("entity", ALLOWED_BY)
async def test_egress_to_an_entity_allows_it_and_denies_the_rest(peers: Peers, policies: Policies, entity: str) -> None:
    policies.apply(TO_ENTITY % entity)
    others = peers.others()
    async with answering(others.values()):
        expected = {name: ALL if name in ALLOWED_BY[entity] else NONE for name in others}
        assert await reached_by(peers.client, others) == expected


@pytest.mark.parametrize("version", [4, 6])
async def test_the_world_of_one_family_is_none_of_the_other(peers: Peers, policies: Policies, version: int) -> None:
    policies.apply(TO_ENTITY % f"world-ipv{version}")
    async with answering([peers.external_host]):
        came = await reached(peers.client, peers.external_host)
    assert came == {way for way in WAYS if way.endswith(f"IPv{version}")}


async def test_egress_by_port_holds_towards_every_peer(peers: Peers, policies: Policies) -> None:
    policies.apply(UDP_ONLY % PORT)
    others = peers.others()
    async with answering(others.values()):
        assert await reached_by(peers.client, others) == dict.fromkeys(
            others, frozenset(way for way in WAYS if way.startswith("udp"))
        )


async def test_ingress_from_nobody_still_lets_the_own_host_in_and_no_other(peers: Peers, policies: Policies) -> None:
    policies.apply(FROM_ENTITY % "health")
    async with answering([peers.near, peers.far]):
        assert await reached(peers.host, peers.near) == ALL
        assert await reached(peers.remote_host, peers.far) == ALL
        assert await reached(peers.host, peers.far) == NONE
        assert await reached(peers.client, peers.far) == NONE


async def test_ingress_from_remote_nodes_lets_other_hosts_in(peers: Peers, policies: Policies) -> None:
    policies.apply(FROM_ENTITY % "remote-node")
    async with answering([peers.far]):
        assert await reached(peers.host, peers.far) == ALL
        assert await reached(peers.client, peers.far) == NONE


@FAMILIES
@pytest.mark.parametrize("where", ["pod, same node", "pod, across", "remote host", "world"])
async def test_a_large_transfer_arrives_whole(peers: Peers, where: str, family: str) -> None:
    server = peers.others()[where]
    done = await transfer(peers.client, server, getattr(server, family), TRANSFER_PORT, megabytes=200)
    assert (done.bytes_received, done.received) == (200 << 20, done.sent)
    print(f"200 MiB, {where}, {family}: {done.seconds:.2f} s")


@FAMILIES
@pytest.mark.parametrize("size", [1400, 4000, 30000])
async def test_datagrams_travel_whole_or_in_fragments_both_ways(peers: Peers, size: int, family: str) -> None:
    others = peers.others()
    async with answering(others.values()):
        came = await asyncio.gather(
            *(
                reaches_udp(peers.client, getattr(other, family), PORT, size=size, seconds=0.9)
                for other in others.values()
            )
        )
    assert dict(zip(others, came, strict=True)) == dict.fromkeys(others, True)


@contextmanager
def serving_load(server: Machine) -> Iterator[None]:
    command = [
        "nsenter",
        f"--net={netns_path(server.network)}",
        sys.executable,
        "-m",
        "laboratory.short_connections",
        "serve",
    ]
    process = subprocess.Popen([*command, *LOAD_PORTS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "listening\n"
        yield
    finally:
        process.kill()
        process.communicate()


@FAMILIES
@pytest.mark.parametrize("where", ["pod, same node", "pod, across", "world"])
def test_thousands_of_short_connections_without_a_stray_failure(peers: Peers, where: str, family: str) -> None:
    """``python -m tests.cluster.routing`` makes a hundred thousand."""
    server = peers.others()[where]
    with serving_load(server):
        assert connect(peers.client, getattr(server, family), 3000)["failed"] == 0


def connect(client: Machine, address: str, count: int) -> dict[str, object]:
    command = [
        "nsenter",
        f"--net={netns_path(client.network)}",
        sys.executable,
        "-m",
        "laboratory.short_connections",
        "connect",
    ]
    run = subprocess.run(
        [*command, address, str(count), *LOAD_PORTS], check=True, capture_output=True, text=True, timeout=600
    )
    report: dict[str, object] = json.loads(run.stdout)
    return report


def test_pods_have_the_mtu_that_the_underlay_leaves(shared: LocalCluster, peers: Peers) -> None:
    overhead = 0 if is_native(shared) else 50
    shown = subprocess.run(
        ["ip", "-n", peers.client.network, "-o", "link", "show", "eth0"], check=True, capture_output=True, text=True
    ).stdout
    assert f"mtu {1500 - overhead} " in shown
