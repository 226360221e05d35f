"""Everything is killed while traffic runs and policies change: nothing is lost, nothing leaks, all
converge.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product

import pytest

from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_tcp, serve_udp
from laboratory.pod import Pod
from laboratory.policies import Policies
from laboratory.streams import Tally, steady_connections, steady_udp
from laboratory.wait import wait_until
from tests.cluster.convergence import converge

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(600)]
ALTERS_CLUSTER = True

PORT = 80
WEB = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: "80"}]}]
"""
OTHER = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: other-%d, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: monitor}}]
    toPorts: [{ports: [{port: "%d"}]}]
"""


@dataclass(slots=True)
class Watched:
    """Traffic that runs during a fault."""

    allowed: dict[str, Tally]
    leaked: int = 0
    denied: int = 0

    def is_telling(self, packets: int = 30) -> bool:
        """Tell whether enough was tried to conclude anything."""
        return all(tally.sent > packets for tally in self.allowed.values()) and self.denied > 5


@asynccontextmanager
async def watched_traffic(cluster: LocalCluster, policies: Policies) -> AsyncIterator[Watched]:
    """Established and new allowed flows, and denied attempts, on one node and across nodes, for the
    block.
    """
    web = cluster.pod("node1", "shop", "web", {"app": "web"})
    near = cluster.pod("node1", "shop", "near", {"app": "client"})
    far = cluster.pod("node2", "shop", "far", {"app": "client"})
    strangers = [
        cluster.pod("node1", "shop", "near-stranger", {"app": "stranger"}),
        cluster.pod("node2", "shop", "far-stranger", {"app": "stranger"}),
    ]
    policies.apply(WEB)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(await serve_tcp(web, PORT))
        stack.callback((await serve_udp(web, PORT)).close)
        watched = Watched({})
        for (name, client), address in product((("near", near), ("far", far)), web.addresses):
            established = steady_udp(client, address, PORT, per_second=250)
            watched.allowed[f"{name} established {address}"] = await stack.enter_async_context(established)
            fresh = steady_connections(client, address, PORT, per_second=25)
            watched.allowed[f"{name} new {address}"] = await stack.enter_async_context(fresh)
        denied = [asyncio.create_task(_try_denied(watched, stranger, web)) for stranger in strangers]
        try:
            yield watched
            await wait_until(lambda: watched.is_telling(40))
        finally:
            for task in denied:
                task.cancel()
            await asyncio.gather(*denied, return_exceptions=True)


async def _try_denied(watched: Watched, stranger: Pod, web: Pod) -> None:
    while True:
        for address in web.addresses:
            watched.leaked += await reaches_tcp(stranger, address, PORT, seconds=0.2)
            watched.denied += 1


def assert_nothing_lost(watched: Watched) -> None:
    assert {name: tally.lost for name, tally in watched.allowed.items()} == dict.fromkeys(watched.allowed, 0)
    assert watched.is_telling(), watched
    assert watched.leaked == 0


@pytest.fixture
def faulty(cluster: LocalCluster) -> Iterator[LocalCluster]:
    yield cluster
    for name, problem in cluster.problems().items():
        if problem:
            cluster.restart(name)


async def test_an_agent_killed_twenty_times_loses_no_packet_and_leaks_none(
    faulty: LocalCluster, policies: Policies
) -> None:
    async with watched_traffic(faulty, policies) as watched:
        for number in range(20):
            agent = f"agent/node{1 + number % 2}"
            await asyncio.to_thread(faulty.kill, agent)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(faulty.start, agent)
    assert_nothing_lost(watched)
    await converge(faulty)


@pytest.mark.parametrize("service", ["ipam", "identity", "policy"])
async def test_a_killed_service_comes_back_and_nothing_is_lost(
    faulty: LocalCluster, policies: Policies, service: str
) -> None:
    async with watched_traffic(faulty, policies) as watched:
        await asyncio.to_thread(faulty.kill, f"service/{service}-1")
        await asyncio.sleep(0.5)
        await asyncio.to_thread(faulty.start, f"service/{service}-1")
        await asyncio.to_thread(policies.apply, OTHER % (1, 8001))
        faulty.pod("node3", "shop", "late", {"app": "monitor"})
        await converge(faulty)
    assert_nothing_lost(watched)


async def test_nats_killed_twice_during_changes(faulty: LocalCluster, policies: Policies) -> None:
    await _kill_during_changes(faulty, policies, "nats")


async def test_etcd_killed_twice_during_changes(faulty: LocalCluster, policies: Policies) -> None:
    await _kill_during_changes(faulty, policies, "etcd")


async def _kill_during_changes(faulty: LocalCluster, policies: Policies, name: str) -> None:
    """Policies are applied all the while; each that was accepted must be there at the end,
    everywhere.
    """
    accepted: list[str] = []

    async def change() -> None:
        number = 0
        while True:
            number += 1
            run = await asyncio.to_thread(
                policies.cilia, "policy", "apply", "-f", "-", text=OTHER % (number, 8000 + number)
            )
            if run.returncode == 0:
                accepted.append(f"other-{number}")

    async with watched_traffic(faulty, policies) as watched:
        changing = asyncio.create_task(change())
        for changes in (1, 2):
            await wait_until(lambda: len(accepted) >= changes)  # noqa: B023 - awaited here
            await asyncio.to_thread(faulty.kill, name)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(faulty.start, name)
        await wait_until(lambda: len(accepted) >= 3)
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        await converge(faulty)
    assert_nothing_lost(watched)
    assert len(accepted) >= 3
    listed = policies.cilia("policy", "list", "-o", "json").stdout
    assert [policy for policy in accepted if f'"{policy}"' not in listed] == []
