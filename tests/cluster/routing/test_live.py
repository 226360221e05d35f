"""Changes of nodes under traffic: other addresses, restarts, deaths; what flows goes on."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cilia.contracts.agent import MapContents, MapQuery
from cilia.netns import inside
from laboratory.cluster import LocalCluster
from laboratory.layout import netns_path
from laboratory.streams import Tally, steady_connections, steady_udp
from laboratory.wait import wait_while
from tests.cluster.routing.peers import ALL, PORT, Peers, answering, reached_by

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(600)]
ALTERS_CLUSTER = True

MOVED = "172.31.9.12"
MORE = 30
"""Packets or connections of each flow before, during and after what happens."""


def ip(namespace: str, arguments: str) -> str:
    return subprocess.run(
        ["ip", "-n", namespace, *arguments.split()], check=True, capture_output=True, text=True
    ).stdout


@asynccontextmanager
async def flowing(peers: Peers) -> AsyncIterator[dict[str, Tally]]:
    """Established and new flows from the client to all peers, and from its host across, for the
    block.
    """
    tallies: dict[str, Tally] = {}
    async with AsyncExitStack() as stack:
        servers = peers.others()
        del servers["host"]
        await stack.enter_async_context(answering(servers.values()))
        for name, server in servers.items():
            tallies[f"{name}, established"] = await stack.enter_async_context(
                steady_udp(peers.client, server.ipv4, PORT, per_second=200)
            )
            tallies[f"{name}, new"] = await stack.enter_async_context(
                steady_connections(peers.client, server.ipv4, PORT, per_second=30)
            )
        tallies["from the host"] = await stack.enter_async_context(
            steady_udp(peers.host, peers.far.ipv4, PORT, per_second=100)
        )
        await flow_on(tallies)
        yield tallies
        await flow_on(tallies)


async def flow_on(tallies: dict[str, Tally]) -> None:
    """Wait until each flow has sent some more."""
    await asyncio.gather(*(tally.wait_for_more(MORE) for tally in tallies.values()))


def lost(tallies: dict[str, Tally]) -> dict[str, int]:
    assert all(tally.received > 10 for tally in tallies.values()), tallies
    return {name: tally.lost for name, tally in tallies.items() if tally.lost}


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_nothing_is_lost_when_an_agent_dies_and_comes_back(shared: LocalCluster, peers: Peers, node: str) -> None:
    async with flowing(peers) as tallies:
        shared.kill(f"agent/{node}")
        await asyncio.sleep(0.5)
        await asyncio.to_thread(shared.start, f"agent/{node}")
        await flow_on(tallies)
    assert lost(tallies) == {}


async def test_pods_are_reached_while_their_node_gets_another_address(shared: LocalCluster, peers: Peers) -> None:
    """Both addresses answer while others learn the new one; then the former goes."""
    namespace = shared.layout.namespace("node2")
    former = peers.remote_host.ipv4
    with inside(netns_path(namespace)):
        Path("/proc/sys/net/ipv4/conf/all/promote_secondaries").write_text("1")  # noqa: ASYNC240 - a kernel's switch
    async with flowing(peers) as tallies:
        del tallies["remote host, established"], tallies["remote host, new"]  # it keeps its sockets, not its address
        ip(namespace, f"addr add {MOVED}/16 dev eth0")
        shared.kill("agent/node2")
        await asyncio.to_thread(shared.start, "agent/node2", settings={"ipv4": MOVED})
        await wait_while(lambda: knows(shared, "node1", former))
        ip(namespace, f"addr del {former}/16 dev eth0")
        await flow_on(tallies)
    assert lost(tallies) == {}
    peers.remote_host.ipv4 = MOVED
    others = peers.others()
    async with answering(others.values()):
        assert await reached_by(peers.client, others) == dict.fromkeys(others, ALL)
    assert not knows(shared, "node1", former)


def knows(cluster: LocalCluster, node: str, address: str) -> bool:
    """Tell whether a node sends anything by another's address."""
    contents = cluster.agent_call(node, "map-get", MapQuery("cilia_ipcache", 100_000), MapContents)
    tunnels = {value["tunnel"] for _, value in contents.entries}
    return address in tunnels or address in ip(cluster.layout.namespace(node), "route").split()
