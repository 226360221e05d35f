"""A node that leaves the cluster is free of everything its agent made; an agent that merely ends
leaves all in place.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from laboratory.wait import wait_until
from tests.cluster.agent.node import Node, command
from tests.cluster.agent.test_agent import devices
from tests.cluster.agent.test_routes import A, publish, routes, row

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[3]


def tear_down(node: Node) -> "subprocess.CompletedProcess[str]":
    flags = ["--node", "node1", "--ipv4", "192.0.2.1", "--socket", str(node.socket)]
    flags += ["--pin-directory", str(node.pins), "--state-directory", str(node.directory / "state")]
    return subprocess.run(
        [sys.executable, "-m", "services.agent.teardown", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )


async def test_teardown_removes_what_the_agent_left_and_nothing_else(node: Node) -> None:
    await node.start()
    before = set(devices())
    await node.add_pod("web")
    publish(node, row(A, "192.0.2.2", "10.80.0.0/24"))
    await wait_until(lambda: len(routes()) == 1)
    command("ip link add mine type veth peer name other")
    node.stop()
    assert {"cilia_host", "cilia_vxlan"} <= before <= set(devices()), "it all outlives the agent"
    assert len(routes()) == 1
    done = tear_down(node)
    assert done.returncode == 0, done.stderr
    assert sorted(devices()) == ["lo", "mine", "other"]
    assert routes() == {}
    assert not node.pins.exists()
    assert tear_down(node).returncode == 0, "what is gone already is fine"


async def test_teardown_is_refused_while_the_agent_runs(node: Node) -> None:
    await node.start()
    before = set(devices())
    done = tear_down(node)
    assert done.returncode == 1
    assert f"an agent answers at {node.socket}; stop it first" in done.stderr
    assert set(devices()) == before
