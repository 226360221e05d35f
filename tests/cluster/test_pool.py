"""A node's addresses grow with its pods, over the edge of a block."""

import pytest

from cilia.contracts.agent import AgentStatus
from cilia.contracts.messages import Empty
from laboratory.attempts import reaches_icmp
from laboratory.cluster import LocalCluster
from tests.cluster.convergence import converge

pytestmark = pytest.mark.cluster

MORE_THAN_A_BLOCK = 66


async def test_a_node_that_runs_out_of_addresses_gets_another_block(cluster: LocalCluster) -> None:
    pods = [cluster.pod("node1", "crowd", f"pod{number}", {"app": "one"}) for number in range(MORE_THAN_A_BLOCK)]
    assert len({pod.ipv4 for pod in pods}) == MORE_THAN_A_BLOCK
    assert len(cluster.agent_call("node1", "status", Empty(), AgentStatus).pod_cidrs) >= 2
    stranger = cluster.pod("node2", "crowd", "far", {"app": "two"})
    await converge(cluster)
    assert await reaches_icmp(pods[0], pods[-1].ipv4, seconds=2)
    assert await reaches_icmp(stranger, pods[-1].ipv4, seconds=2)
