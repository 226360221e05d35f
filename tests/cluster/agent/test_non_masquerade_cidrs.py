"""cilia_non_masquerade follows the settings and the nodes, through restarts."""

import subprocess
import sys
from pathlib import Path

import pytest

from laboratory.wait import wait_until
from services.agent.address import MAPPED_BITS
from tests.cluster.agent.node import Node
from tests.cluster.agent.test_routes import A, publish, row

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[3]
OWN = "10.66.0.0/24"


async def excluded(node: Node) -> set[str]:
    entries = (await node.call("map-get", name="cilia_non_masquerade"))["entries"]
    return {f"{key['address']}/{key['prefixlen'] - MAPPED_BITS}" for key, _ in entries}


async def settle_at(node: Node, *wanted: str) -> None:
    async def is_so() -> bool:
        return await excluded(node) == set(wanted)

    try:
        await wait_until(is_so)
    except AssertionError:
        assert await excluded(node) == set(wanted)


async def test_exclusions_follow_settings_and_nodes_and_stale_ones_go_after_a_restart(node: Node) -> None:
    await node.start(masquerade_exclude="192.0.2.0/24,198.51.100.0/24")
    publish(node, row(A, "192.0.2.2", "10.80.0.0/24"))
    await settle_at(node, "192.0.2.0/24", "198.51.100.0/24", OWN, "10.80.0.0/24")
    node.kill()
    publish(node, removes=(A,))
    await node.start(masquerade_exclude="192.0.2.0/24")
    await settle_at(node, "192.0.2.0/24", OWN)


def test_a_network_that_is_none_is_refused_with_its_name_and_value() -> None:
    flags = ["--node", "n", "--ipv4", "192.0.2.1", "--masquerade-exclude", "10.0.0.0/8,10.0.0.1/8"]
    run = subprocess.run(
        [sys.executable, "-m", "services.agent", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "'masquerade_exclude' = '10.0.0.1/8'" in run.stderr
    assert "has host bits set" in run.stderr


def test_a_routing_mode_that_is_none_is_refused_with_its_name_and_value() -> None:
    flags = ["--node", "n", "--ipv4", "192.0.2.1", "--routing", "magic"]
    run = subprocess.run(
        [sys.executable, "-m", "services.agent", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "'routing' = 'magic'" in run.stderr


async def test_an_uplink_that_is_none_is_refused_by_name(node: Node) -> None:
    with pytest.raises(AssertionError, match="the agent ended"):
        await node.start(uplinks="eth7")
