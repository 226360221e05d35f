"""Peers by address, on real traffic to a world beyond the nodes: by prefix, with exceptions, by
group, as they change.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_tcp
from laboratory.machine import Machine
from laboratory.namespaces import ip
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import Configuration

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PORT = 7000
NEAR, INNER, FAR = "198.51.100.10", "198.51.100.130", "198.51.100.250"
"""Addresses of the world: in 198.51.100.0/25, in 198.51.100.128/26, and in neither."""
ALL = {NEAR, INNER, FAR}
SECONDS = 0.6


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2, external_host=True)


@pytest.fixture(scope="module")
def cluster(shared_cluster: LocalCluster) -> Iterator[LocalCluster]:
    network = shared_cluster.external_host().network
    ip(f"-n {network}", [f"addr add {address}/24 dev eth0" for address in (INNER, FAR)])
    yield shared_cluster
    ip(f"-n {network}", [f"addr del {address}/24 dev eth0" for address in (INNER, FAR)])


@pytest.fixture(scope="module")
def pod(cluster: LocalCluster) -> Pod:
    return cluster.pod("node1", "shop", "client", {"app": "client"})


@pytest.fixture
def policies(cluster: LocalCluster) -> Iterator[Policies]:
    policies = Policies(cluster)
    yield policies
    policies.delete_all()


async def reached(cluster: LocalCluster, pod: Pod) -> set[str]:
    """Return the addresses of the world that the pod gets an answer from."""
    world = replace(cluster.external_host(), sockets=[])
    try:
        async with await serve_tcp(world, PORT):
            answers = await asyncio.gather(
                *(reaches_tcp(pod, address, PORT, seconds=SECONDS) for address in sorted(ALL))
            )
    finally:
        world.close()
    return {address for address, came in zip(sorted(ALL), answers, strict=True) if came}


def egress(peers: str, *, name: str = "p", section: str = "egress") -> str:
    """Return a policy of the client."""
    return f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  {section}: [{peers}]
---
"""


def group(*prefixes: str, labels: str = "{}") -> str:
    return f"""
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {{name: partners, labels: {labels}}}
spec: {{externalCIDRs: [{", ".join(prefixes)}]}}
---
"""


CASES = {
    "no policy": ("", ALL),
    "one prefix": (egress("{toCIDR: [198.51.100.0/25]}"), {NEAR}),
    "one address": (egress(f"{{toCIDR: [{FAR}/32]}}"), {FAR}),
    "two prefixes": (egress("{toCIDR: [198.51.100.0/25, 198.51.100.128/26]}"), {NEAR, INNER}),
    "all but": (egress("{toCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.128/26]}]}"), {NEAR, FAR}),
    "the world": (egress("{toEntities: [world]}"), ALL),
    "the whole of IPv4": (egress("{toCIDR: [0.0.0.0/0]}"), ALL),
    "the whole of IPv6": (egress("{toCIDR: ['::/0']}"), set()),
    "another prefix": (egress("{toCIDR: [203.0.113.0/24]}"), set()),
    "the world, but for a denied prefix": (
        egress("{toEntities: [world]}") + egress("{toCIDR: [198.51.100.128/26]}", name="d", section="egressDeny"),
        {NEAR, FAR},
    ),
    "a prefix in a denied one": (
        egress("{toCIDR: [198.51.100.128/26]}") + egress("{toCIDR: [198.51.100.0/24]}", name="d", section="egressDeny"),
        set(),
    ),
    "the world, beside a policy that names a prefix": (
        egress("{toEntities: [world]}") + egress(f"{{toCIDR: [{FAR}/32]}}", name="other").replace("client", "nobody"),
        ALL,
    ),
    "a group by name": (
        group("198.51.100.128/26", "203.0.113.0/24") + egress("{toCIDRSet: [{cidrGroupRef: partners}]}"),
        {INNER},
    ),
    "a group by label": (
        group("198.51.100.0/25", labels="{tier: gold}")
        + egress("{toCIDRSet: [{cidrGroupSelector: {matchLabels: {tier: gold}}}]}"),
        {NEAR},
    ),
    "a group with another label": (
        group("198.51.100.0/25", labels="{tier: tin}")
        + egress("{toCIDRSet: [{cidrGroupSelector: {matchLabels: {tier: gold}}}]}"),
        set(),
    ),
    "a group, but for": (
        group("198.51.100.0/24") + egress("{toCIDRSet: [{cidrGroupRef: partners, except: [198.51.100.128/26]}]}"),
        {NEAR, FAR},
    ),
    "an ipBlock of Kubernetes": (
        """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.0/25]}}]}]
""",
        {INNER, FAR},
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
async def test_peers_by_address(
    cluster: LocalCluster, pod: Pod, policies: Policies, text: str, expected: set[str]
) -> None:
    if text:
        policies.apply(text)
    assert await reached(cluster, pod) == expected


async def test_a_group_changes_under_the_policy_that_names_it(
    cluster: LocalCluster, pod: Pod, policies: Policies
) -> None:
    policies.apply(group("198.51.100.0/25") + egress("{toCIDRSet: [{cidrGroupRef: partners}]}"))
    assert await reached(cluster, pod) == {NEAR}
    policies.apply(group(f"{FAR}/32", "198.51.100.128/26"))
    assert await reached(cluster, pod) == {INNER, FAR}
    policies.delete("CiliumCIDRGroup//partners")
    assert await reached(cluster, pod) == set()


async def test_a_connection_to_the_world_outlives_a_policy_that_comes_to_name_its_prefix(
    cluster: LocalCluster, pod: Pod, policies: Policies
) -> None:
    """A part of the world gets an identity of its own and loses it, and is reached throughout."""
    policies.apply(egress("{toEntities: [world]}"))

    async def attempt(stop: asyncio.Event) -> int:
        missed = 0
        while not stop.is_set():
            missed += not await reaches_tcp(pod, NEAR, PORT, seconds=SECONDS)
            await asyncio.sleep(0.005)
        return missed

    stop = asyncio.Event()
    world: Machine = replace(cluster.external_host(), sockets=[])
    try:
        async with await serve_tcp(world, PORT):
            attempts = asyncio.create_task(attempt(stop))
            for length in range(27, 33):
                prefix = ip_network(f"{NEAR}/{length}", strict=False)
                text = egress(f"{{toCIDR: [{prefix}]}}", name="other").replace("client", "nobody")
                await asyncio.to_thread(policies.apply, text)
            await asyncio.to_thread(policies.delete, "CiliumNetworkPolicy/shop/other")
            stop.set()
            missed = await attempts
    finally:
        world.close()
    assert missed == 0


@pytest.mark.parametrize("process", ["agent/node1", "service/policy-1", "service/identity-1"])
async def test_prefixes_hold_through_a_restart(
    cluster: LocalCluster, pod: Pod, policies: Policies, process: str
) -> None:
    policies.apply(egress("{toCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.128/26]}]}"))
    assert await reached(cluster, pod) == {NEAR, FAR}
    cluster.kill(process)
    assert await reached(cluster, pod) == {NEAR, FAR}
    await asyncio.to_thread(cluster.start, process)
    assert await reached(cluster, pod) == {NEAR, FAR}
    policies.apply(egress(f"{{toCIDR: [{FAR}/32]}}"))
    assert await reached(cluster, pod) == {FAR}
