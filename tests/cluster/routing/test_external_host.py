"""The world beyond the nodes of a local cluster: nodes and it talk, and pods are unknown to it."""

import os
from collections.abc import Iterator

import pytest

from laboratory.attempts import reaches_icmp
from laboratory.cluster import LocalCluster
from tests.cluster.routing.peers import WAYS, answering, reached

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    cluster = LocalCluster.up(f"world-{os.getpid()}", nodes=1, external_host=True)
    try:
        yield cluster
    finally:
        cluster.down()


async def test_nodes_and_the_world_reach_each_other_and_the_world_reaches_no_pod(cluster: LocalCluster) -> None:
    host, world = cluster.host("node1"), cluster.external_host()
    pod = cluster.pod("node1", "shop", "web", {"app": "web"})
    async with answering([host, world]):
        assert await reached(host, world) == set(WAYS)
        assert await reached(world, host) == set(WAYS)
    assert await reaches_icmp(host, pod.ipv4)
    assert not await reaches_icmp(world, pod.ipv4)
