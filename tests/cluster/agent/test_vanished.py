"""Pods that vanish without a word: with their network namespace, or their link alone."""

import subprocess

import pytest

from cilia.contracts.agent import LocalEndpoint, LocalEndpoints
from cilia.contracts.messages import Empty
from laboratory.attempts import reaches_tcp
from laboratory.cluster import LocalCluster
from laboratory.echo_servers import echoing
from laboratory.namespaces import delete_namespace
from laboratory.wait import wait_until

pytestmark = pytest.mark.cluster

PORT = 80


def names(cluster: LocalCluster, node: str) -> set[str]:
    return {each.name for each in cluster.agent_call(node, "endpoint-list", Empty(), LocalEndpoints).endpoints}


async def test_a_pod_whose_namespace_is_gone_is_taken_down(cluster: LocalCluster) -> None:
    pod = cluster.pod("node1", "shop", "gone", {"app": "web"})
    assert "gone" in names(cluster, "node1")
    delete_namespace(pod.network)
    await wait_until(lambda: "gone" not in names(cluster, "node1"))
    cluster.pods.remove(pod)


async def test_a_pod_is_created_again_under_its_name_before_anybody_noticed(cluster: LocalCluster) -> None:
    former = cluster.pod("node1", "shop", "web", {"app": "web"})
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    delete_namespace(former.network)
    fresh = cluster.pod("node1", "shop", "web", {"app": "web"})
    cluster.pods.remove(former)
    assert fresh.endpoint.id != former.endpoint.id
    async with echoing([fresh], tcp=(PORT,)):
        assert await reaches_tcp(client, fresh.ipv4, PORT)


async def test_a_link_that_somebody_removed_is_made_again(cluster: LocalCluster) -> None:
    pod = cluster.pod("node1", "shop", "web", {"app": "web"})
    client = cluster.pod("node1", "shop", "client", {"app": "client"})
    async with echoing([pod], tcp=(PORT,)):
        assert await reaches_tcp(client, pod.ipv4, PORT)
        host = cluster.host("node1").network
        subprocess.run(["ip", "-n", host, "link", "delete", pod.endpoint.host_interface], check=True)

        def is_back() -> bool:
            found = cluster.agent_call("node1", "endpoint-get", pod.reference, LocalEndpoint)
            return found.ifindex != pod.endpoint.ifindex

        await wait_until(is_back)
        assert await reaches_tcp(client, pod.ipv4, PORT)
