"""Peers by address, as policies and processes come and go: what was always allowed passes, what
never was never does.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from laboratory import external_host
from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing, serve_tcp
from laboratory.machine import Machine
from laboratory.namespaces import ip
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.pool import ClusterPool, Configuration
from laboratory.streams import steady_udp

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PORT = 7000
LAST = (10, 20, 21, 30)
"""Last numbers of the world's addresses of both families."""


def addresses(*last: int) -> set[str]:
    return {f"198.51.100.{each}" for each in last} | {f"2001:db8:100::{each}" for each in last}


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return Configuration(nodes=2, replicas=2, external_host=True)


@pytest.fixture(scope="module")
def shared_cluster(cluster_pool: ClusterPool, configuration: Configuration) -> Iterator[LocalCluster]:
    with cluster_pool.lend(configuration, alters_cluster=True) as cluster:
        outside = cluster.layout.external_host
        for last in LAST[1:]:
            ip(f"-n {outside}", [f"addr add 198.51.100.{last}/24 dev eth0"])
            ip(f"-n {outside}", [f"addr add 2001:db8:100::{last}/64 dev eth0 nodad"])
        yield cluster


def policy(name: str, rules: str) -> str:
    return f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  {rules}
"""


@asynccontextmanager
async def listening(server: Machine) -> AsyncIterator[None]:
    async with echoing([server], tcp=(PORT,), udp=(PORT,)):
        yield


async def reached(client: Pod) -> set[str]:
    """Return the world's addresses that a pod reaches."""
    every = sorted(addresses(*LAST))
    came = await asyncio.gather(*(reaches_tcp(client, each, PORT, seconds=0.9) for each in every))
    return {each for each, ok in zip(every, came, strict=True) if ok}


def client_pods(cluster: LocalCluster) -> list[Pod]:
    return [cluster.pod(node, "shop", f"client-{node}", {"app": "client"}) for node in ("node1", "node2")]


async def expect(clients: list[Pod], *last: int) -> None:
    for client in clients:
        assert await reached(client) == addresses(*last)


async def test_prefixes_allow_deny_and_except_by_the_longest_match(cluster: LocalCluster, policies: Policies) -> None:
    clients = client_pods(cluster)
    async with listening(cluster.external_host()):
        await expect(clients, *LAST)
        policies.apply(policy("out", 'egress: [{toCIDR: ["198.51.100.10/32", "2001:db8:100::10/128"]}]'))
        await expect(clients, 10)
        policies.apply(policy("out", 'egress: [{toCIDR: ["198.51.100.0/24", "2001:db8:100::/64"]}]'))
        await expect(clients, *LAST)
        narrow = 'egressDeny: [{toCIDR: ["198.51.100.20/31", "2001:db8:100::20/127"]}]'
        policies.apply(policy("not", narrow))
        await expect(clients, 10, 30)
        policies.delete("CiliumNetworkPolicy/shop/not")
        await expect(clients, *LAST)
        excepts = """egress:
  - toCIDRSet:
    - {cidr: 198.51.100.0/24, except: [198.51.100.16/28]}
    - {cidr: "2001:db8:100::/64", except: ["2001:db8:100::20/123"]}"""
        policies.apply(policy("out", excepts))
        await expect(clients, 10)
        policies.apply(policy("again", 'egress: [{toCIDR: ["198.51.100.21/32", "2001:db8:100::21/128"]}]'))
        await expect(clients, 10, 21)


async def test_a_rule_for_one_family_says_nothing_of_the_other(cluster: LocalCluster, policies: Policies) -> None:
    clients = client_pods(cluster)
    async with listening(cluster.external_host()):
        policies.apply(policy("out", 'egress: [{toCIDR: ["198.51.100.0/24"]}]'))
        for client in clients:
            assert {ip_address(each).version for each in await reached(client)} == {4}
        policies.apply(policy("out", 'egress: [{toCIDR: ["::/0"]}]'))
        for client in clients:
            assert {ip_address(each).version for each in await reached(client)} == {6}


async def test_what_was_never_allowed_never_passes_while_policies_and_processes_come_and_go(
    cluster: LocalCluster, policies: Policies
) -> None:
    """The world's .10 is allowed throughout, in other words each time; .20 never is, though its
    surroundings are.
    """
    clients, outside = client_pods(cluster), cluster.external_host()
    steps = [
        """egress: [{toCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.20/32]}]}]""",
        """egress: [{toEntities: [world]}]
  egressDeny: [{toCIDR: [198.51.100.16/28]}]""",
        """egress: [{toCIDR: [198.51.100.10/32]}]""",
        """egress: [{toCIDRSet: [{cidr: 198.51.0.0/16, except: [198.51.100.20/30]}]}]""",
    ]
    async with listening(outside):
        policies.apply(policy("out", steps[2]))
        streams = [steady_udp(client, "198.51.100.10", PORT, per_second=200) for client in clients]
        forbidden = [steady_udp(client, "198.51.100.20", PORT, per_second=1000) for client in clients]
        async with streams[0] as first, streams[1] as second, forbidden[0] as third, forbidden[1] as fourth:
            for round_number in range(3):
                for step in steps:
                    await asyncio.gather(first.wait_for_more(20), second.wait_for_more(20))
                    await asyncio.to_thread(policies.apply, policy("out", step))
                victims = ("agent/node1", "service/policy-1", "service/identity-1")
                for name in victims if round_number == 2 else ():
                    cluster.kill(name)
                    without = policy("out", steps[1])
                    run = await asyncio.to_thread(policies.cilia, "policy", "apply", "-f", "-", text=without)
                    assert run.returncode == 0, run.stderr
                    await asyncio.to_thread(cluster.start, name)
                    await asyncio.to_thread(policies.apply, policy("out", steps[0]))
            await asyncio.gather(*(stream.wait_for_more(100) for stream in (first, second, third, fourth)))
        assert third.sent
        assert fourth.sent
        assert (third.received, fourth.received) == (0, 0)
        assert first.sent > 200
        assert second.sent > 200
        assert (first.lost, second.lost) == (0, 0)


async def test_a_prefix_decides_over_who_comes_in_from_outside(cluster: LocalCluster, policies: Policies) -> None:
    clients, outside = client_pods(cluster), cluster.external_host()
    for client, node in zip(clients, ("node1", "node2"), strict=True):
        route = f"route replace {client.ipv4} via"
        ip(f"-n {outside.network}", [f"{route} {external_host.ROUTER}"])
        ip(f"-n {cluster.layout.hub}", [f"{route} {cluster.host(node).ipv4}"])
    for client in clients:
        async with await serve_tcp(client, PORT):
            assert await reaches_tcp(outside, client.ipv4, PORT, seconds=0.9)
            policies.apply(policy("in", 'ingress: [{fromCIDR: ["203.0.113.0/24"]}]'))
            assert not await reaches_tcp(outside, client.ipv4, PORT, seconds=0.9)
            policies.apply(policy("in", 'ingress: [{fromCIDR: ["198.51.100.0/26"]}]'))
            assert await reaches_tcp(outside, client.ipv4, PORT, seconds=0.9)
            deny = """ingress: [{fromCIDR: ["198.51.0.0/16"]}]
  ingressDeny: [{fromCIDR: ["198.51.100.0/28"]}]"""
            policies.apply(policy("in", deny))
            assert not await reaches_tcp(outside, client.ipv4, PORT, seconds=0.9)
            policies.delete("CiliumNetworkPolicy/shop/in")
        client.close()


async def test_a_denied_prefix_is_told_apart_before_its_surroundings_are_allowed(
    cluster: LocalCluster, policies: Policies
) -> None:
    """Nothing but .10 is allowed, then the world but for an address that no policy has named
    before.
    """
    clients, outside = client_pods(cluster), cluster.external_host()
    async with listening(outside):
        for last in range(100, 106):
            address = f"198.51.100.{last}"
            ip(f"-n {outside.network}", [f"addr add {address}/24 dev eth0"])
            policies.apply(policy("out", "egress: [{toCIDR: [198.51.100.10/32]}]"))
            first, second = (steady_udp(client, address, PORT, per_second=1000) for client in clients)
            async with first as here, second as there:
                rules = f"egress: [{{toEntities: [world]}}]\n  egressDeny: [{{toCIDR: [{address}/32]}}]"
                await asyncio.to_thread(policies.apply, policy("out", rules))
                await asyncio.gather(here.wait_for_more(100), there.wait_for_more(100))
            assert here.sent > 100
            assert (here.received, there.received) == (0, 0)


async def test_a_restarted_agent_tells_a_prefix_apart_before_the_policy_that_came_meanwhile(
    cluster: LocalCluster, policies: Policies
) -> None:
    client, outside = client_pods(cluster)[0], cluster.external_host()
    allowed = "198.51.100.10"
    async with listening(outside):
        for last in range(110, 114):
            address = f"198.51.100.{last}"
            ip(f"-n {outside.network}", [f"addr add {address}/24 dev eth0"])
            policies.apply(policy("out", f"egress: [{{toCIDR: [{allowed}/32]}}]"))
            cluster.kill("agent/node1")
            rules = f"egress: [{{toEntities: [world]}}]\n  egressDeny: [{{toCIDR: [{address}/32]}}]"
            run = policies.cilia("policy", "apply", "-f", "-", text=policy("out", rules))
            assert run.returncode == 0, run.stderr
            forbidden = steady_udp(client, address, PORT, per_second=2000)
            async with forbidden as there, steady_udp(client, allowed, PORT) as here:
                await asyncio.to_thread(cluster.start, "agent/node1")
                await asyncio.gather(here.wait_for_more(100), there.wait_for_more(500))
            assert there.sent > 100
            assert (there.received, here.lost) == (0, 0)
            assert await reaches_tcp(client, "198.51.100.30", PORT, seconds=0.9)
