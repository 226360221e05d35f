"""Both families in one cluster: every pair of pods, every protocol, allowed and denied, and the
hosts.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import product

import pytest

from laboratory import connectivity
from laboratory.attempts import reaches_icmp, reaches_tcp, reaches_udp
from laboratory.cluster import LocalCluster
from laboratory.connectivity import DNS, HTTP, Attempt
from laboratory.echo_servers import serve_tcp, serve_udp
from laboratory.layout import Families
from laboratory.machine import Machine
from laboratory.pod import Pod
from laboratory.policies import Policies
from tests.cluster.convergence import converge

pytestmark = pytest.mark.cluster

CLIENTS_ONLY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: clients-only, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}, {port: "53", protocol: UDP}]}]
  - fromEndpoints: [{matchLabels: {app: client}}]
    icmps: [{fields: [{family: IPv4, type: 8}, {family: IPv6, type: 128}]}]
"""
ECHO_OF_ONE_FAMILY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: echo, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - icmps: [{fields: [{family: %s, type: %s}]}]
"""
PATIENT_SECONDS = 0.9


@pytest.fixture(scope="module")
def shared(shared_cluster: LocalCluster) -> LocalCluster:
    return shared_cluster


@pytest.fixture(scope="module")
def pods(shared: LocalCluster) -> list[Pod]:
    return [
        shared.pod(node, "shop", f"{app}-{node}", {"app": app})
        for node, app in product(("node1", "node2"), ("web", "client", "stranger"))
    ]


@pytest.fixture
def policies(shared: LocalCluster) -> Iterator[Policies]:
    policies = Policies(shared)
    yield policies
    policies.delete_all()


async def reached(client: Machine, server: Machine) -> set[tuple[str, str]]:
    """Return the ways in which the client gets an answer: (protocol, the server's address)."""
    ways = [(protocol, address) for protocol in ("tcp", "udp", "icmp") for address in server.addresses]
    tries = {
        "tcp": lambda address: reaches_tcp(client, address, HTTP, seconds=PATIENT_SECONDS),
        "udp": lambda address: reaches_udp(client, address, DNS, seconds=PATIENT_SECONDS),
        "icmp": lambda address: reaches_icmp(client, address, seconds=PATIENT_SECONDS),
    }
    came = await asyncio.gather(*(tries[protocol](address) for protocol, address in ways))
    return {way for way, passed in zip(ways, came, strict=True) if passed}


def all_ways(server: Machine) -> set[tuple[str, str]]:
    return set(product(("tcp", "udp", "icmp"), server.addresses))


async def test_every_pair_talks_by_every_protocol_of_both_families(shared: LocalCluster, pods: list[Pod]) -> None:
    assert all(pod.ipv4 and ":" in pod.ipv6 for pod in pods)
    async with connectivity.serving(pods):
        assert await connectivity.differences(pods, lambda _: True) == []
    await converge(shared)


async def test_policy_allows_and_denies_alike_in_both_families(pods: list[Pod], policies: Policies) -> None:
    def expected(attempt: Attempt) -> bool:
        if "/web-" not in attempt.destination:
            return True
        return "/client-" in attempt.source and (attempt.protocol, attempt.port) != ("tcp", connectivity.OTHER)

    async with connectivity.serving(pods):
        policies.apply(CLIENTS_ONLY)
        assert await connectivity.differences(pods, expected) == []


@pytest.mark.parametrize(("family", "kind"), [("IPv4", "8"), ("IPv6", "128"), ("IPv4", "EchoRequest")])
async def test_a_rule_for_echoes_of_one_family_is_none_for_the_other(
    pods: list[Pod], policies: Policies, family: str, kind: str
) -> None:
    near, client, _, far = pods[:4]
    policies.apply(ECHO_OF_ONE_FAMILY % (family, kind))
    for server in (near, far):
        came = {address for protocol, address in await reached(client, server) if protocol == "icmp"}
        assert came == {server.ipv4 if family == "IPv4" else server.ipv6}


async def test_hosts_and_their_pods_talk_by_both_families(
    shared: LocalCluster, pods: list[Pod], policies: Policies
) -> None:
    host, web, stranger = shared.host("node1"), pods[0], pods[2]
    gateways = Machine(name="gateways", ipv4=web.endpoint.gateway, ipv6=web.endpoint.gateway_ipv6, network=host.network)
    policies.apply(CLIENTS_ONLY)  # says nothing of hosts; a pod's own host may always reach it
    async with connectivity.serving(pods), await serve_tcp(host, HTTP):
        with closing(await serve_udp(host, DNS)):
            assert await reached(host, web) == all_ways(web)
            assert await reached(stranger, host) == all_ways(host)
            assert await reached(stranger, gateways) == all_ways(gateways)


@pytest.mark.parametrize("families", [Families.IPV4, Families.IPV6])
async def test_a_cluster_of_one_family_has_no_address_of_the_other(families: Families) -> None:
    cluster = LocalCluster.up(f"{families.value}-{os.getpid()}", nodes=2, families=families)
    try:
        one, two = cluster.pod("node1", "shop", "one", {}), cluster.pod("node2", "shop", "two", {})
        wanted = one.ipv4 if families is Families.IPV4 else one.ipv6
        assert one.addresses == (wanted,)
        async with connectivity.serving([one, two]):
            assert await connectivity.differences([one, two], lambda _: True) == []
        await converge(cluster)
    finally:
        cluster.down()
