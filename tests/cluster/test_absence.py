"""Absences longer than every timer: what exists stays while whoever keeps it hangs or is dead.

The timers are shortened by configuration, not the faults.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from cilia.contracts.agent import MapContents, MapQuery
from cilia.contracts.keys import Keys
from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import serve_tcp
from laboratory.policies import Policies
from laboratory.pool import clear
from laboratory.wait import wait_until, wait_while
from tests.cluster.convergence import converge, read_etcd
from tests.cluster.test_faults import OTHER, PORT, WEB, Watched, assert_nothing_lost, watched_traffic

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(600)]

STALE_SECONDS = 2.0
FAULT_SECONDS = 10.0
"""More than the time after which a node is stale (2 s), a leader is succeeded (2 s), a server or a
client that hangs is given up by the other (6 s), and an agent republishes (5 s).
"""
SERVICES = ("ipam", "identity", "policy", "recorder")
SETTINGS = {
    service: {"election-seconds": "2"} | ({"stale-seconds": f"{STALE_SECONDS}"} if service == "ipam" else {})
    for service in SERVICES
}
ALL = ("nats", "etcd", *(f"service/{service}-1" for service in SERVICES))


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalCluster]:
    cluster = LocalCluster.up(f"absence-{os.getpid()}", nodes=3, service_settings=SETTINGS, forks=True)
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def cluster(lasting: LocalCluster) -> Iterator[LocalCluster]:
    yield lasting
    for name in lasting.state.processes:
        lasting.thaw(name)
    for name, problem in lasting.problems().items():
        if problem:
            lasting.restart(name)
    clear(lasting)


@pytest.fixture
def policies(cluster: LocalCluster) -> Policies:
    return Policies(cluster)


async def truth(cluster: LocalCluster) -> dict[str, int]:
    """Return the keys from which verdicts and routes follow, and the revision that wrote each."""
    keys = Keys(cluster.layout.name)
    prefixes = (keys.nodes, keys.blocks, keys.endpoints, keys.identities, keys.policies)
    return {each.key: each.mod_revision for each in await read_etcd(cluster) if each.key.startswith(prefixes)}


def addresses(cluster: LocalCluster) -> list[list[tuple[dict[str, int | str], dict[str, int | str]]]]:
    """Return the ipcache of every node that answers."""
    return [
        sorted(
            cluster.agent_call(node.name, "map-get", MapQuery("cilia_ipcache", 10_000), MapContents).entries,
            key=str,
        )
        for node in cluster.state.nodes
    ]


@asynccontextmanager
async def unchanged(cluster: LocalCluster, policies: Policies) -> AsyncIterator[Watched]:
    """Have traffic run for the block, and see that it changed no row, no route and no verdict."""
    async with watched_traffic(cluster, policies) as watched:
        late = cluster.pod("node3", "shop", "late", {"app": "client"})  # known to the others just now
        web = next(pod for pod in cluster.pods if pod.name == "shop/web")
        assert all([await reaches_tcp(late, address, PORT, seconds=5) for address in web.addresses])
        rows, known = await truth(cluster), addresses(cluster)
        yield watched
        await converge(cluster)
        assert await truth(cluster) == rows
        assert addresses(cluster) == known
    assert_nothing_lost(watched)


async def new_connections_succeed(cluster: LocalCluster) -> None:
    """Connect pods of different nodes that have never talked, in the midst of the fault."""
    late, *others = (pod for pod in reversed(cluster.pods) if pod.name in ("shop/late", "shop/near", "shop/far"))
    async with await serve_tcp(late, PORT):
        for client in others:
            for address in late.addresses:
                assert await reaches_tcp(client, address, PORT, seconds=0.9)


async def changes_come_into_force(policies: Policies) -> None:
    """Change policy, once the services are connected again."""
    apply = ("policy", "apply", "-f", "-", "--wait", "--timeout", "30")
    await wait_until(lambda: policies.cilia(*apply, text=OTHER % (1, 8001)).returncode == 0)


@pytest.mark.parametrize(
    "absent", [*((name,) for name in ALL), ALL], ids=lambda names: names[0] if len(names) == 1 else "all together"
)
async def test_what_hangs_for_longer_than_every_timer_changes_nothing_and_its_return_neither(
    cluster: LocalCluster, policies: Policies, absent: tuple[str, ...]
) -> None:
    async with unchanged(cluster, policies):
        for name in absent:
            cluster.freeze(name)
        await asyncio.sleep(FAULT_SECONDS)
        await new_connections_succeed(cluster)
        for name in absent:
            cluster.thaw(name)
        await wait_until(lambda: not any(cluster.problems().values()), seconds=60)
    await changes_come_into_force(policies)


@pytest.mark.parametrize("absent", [("nats",), ("service/ipam-1",), ALL], ids=["nats", "ipam", "all together"])
async def test_what_is_dead_for_longer_than_every_timer_changes_nothing_and_its_return_neither(
    cluster: LocalCluster, policies: Policies, absent: tuple[str, ...]
) -> None:
    async with unchanged(cluster, policies):
        for name in absent:
            await asyncio.to_thread(cluster.kill, name)
        await asyncio.sleep(FAULT_SECONDS)
        await new_connections_succeed(cluster)
        for name in sorted(absent, key=ALL.index):
            await asyncio.to_thread(cluster.start, name)
    await changes_come_into_force(policies)


def is_stale(policies: Policies) -> bool:
    """Tell whether a node is said to be silent."""
    return "stale" in policies.cilia("node", "list").stdout


async def test_an_agent_that_hangs_is_said_to_be_stale_and_late_and_its_pods_are_reached(
    cluster: LocalCluster, policies: Policies
) -> None:
    async with unchanged(cluster, policies):
        cluster.freeze("agent/node1")
        await wait_until(lambda: asyncio.to_thread(is_stale, policies), seconds=60)
        await asyncio.sleep(FAULT_SECONDS)
        await new_connections_succeed(cluster)
        assert "node1 is stale" in (await asyncio.to_thread(policies.cilia, "status")).stderr
        cluster.thaw("agent/node1")
        await wait_while(lambda: asyncio.to_thread(is_stale, policies), seconds=60)


async def test_a_change_that_a_stale_node_does_not_have_is_not_said_to_be_in_force(
    cluster: LocalCluster, policies: Policies
) -> None:
    cluster.pod("node1", "shop", "web", {"app": "web"})
    cluster.freeze("agent/node1")
    await wait_until(lambda: is_stale(policies), seconds=60)
    run = policies.cilia("policy", "apply", "-f", "-", "--wait", "--timeout", "2", text=WEB)
    assert run.returncode == 3
    assert "NOT in force yet on node1 (stale" in run.stderr
    cluster.thaw("agent/node1")
    assert policies.cilia("policy", "wait", "--timeout", "30").returncode == 0


@pytest.mark.parametrize("by_hand", [True, False], ids=["deleted by hand", "declared dead"])
async def test_a_node_that_was_removed_is_gone_everywhere_and_comes_back_with_all_its_pods(
    cluster: LocalCluster, by_hand: bool
) -> None:
    policies = Policies(cluster)
    web = cluster.pod("node1", "shop", "web", {"app": "web"})
    client = cluster.pod("node2", "shop", "client", {"app": "client"})
    if not by_hand:
        cluster.restart("service/ipam-1", settings={"dead-seconds": "4"})
    async with await serve_tcp(web, PORT):
        cluster.freeze("agent/node1")
        await wait_until(lambda: is_stale(policies))
        if by_hand:
            assert policies.cilia("node", "delete", "node2").returncode != 0, "it lives"
            assert policies.cilia("node", "delete", "node1").returncode == 0
        await wait_while(lambda: "node1" in policies.cilia("node", "list").stdout)
        assert not any("node1" in key for key in await truth(cluster))
        for address in web.addresses:
            await wait_while(lambda: reaches_tcp(client, address, PORT))  # noqa: B023 - awaited here
        cluster.thaw("agent/node1")
        await wait_until(lambda: "node1" in policies.cilia("node", "list").stdout)
        await converge(cluster)
        for address in web.addresses:
            await wait_until(lambda: reaches_tcp(client, address, PORT))  # noqa: B023 - awaited here
    if not by_hand:
        cluster.restart("service/ipam-1")
