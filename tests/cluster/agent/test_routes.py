"""An agent's routes follow the table of nodes, through restarts and others' interference."""

import subprocess

import pytest

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node as Row
from laboratory.wait import wait_until
from tests.cluster.agent.node import Node, command
from tests.cluster.agent.test_drift import told

pytestmark = pytest.mark.cluster

A, B = NodeName("a"), NodeName("b")


def routes() -> dict[str, str]:
    """Return the gateway (or device) and source of the routes of the agent's protocol number."""
    shown = subprocess.run(["ip", "route", "show", "proto", "193"], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines())


def links(node: Node) -> set[str]:
    """Return the pinned links of programs, without the index of their device."""
    return {pin.name.rpartition("_")[0] for pin in node.pins.glob("link_*")}


def publish(node: Node, *rows: Row, removes: tuple[NodeName, ...] = ()) -> None:
    node.owners.commit("nodes", {row.name: row for row in rows}, removes)


def row(name: NodeName, ipv4: str, *blocks: str) -> Row:
    return Row(name, ipv4, pod_cidrs=blocks)


async def test_the_overlay_s_routes_follow_the_nodes(node: Node) -> None:
    await node.start()
    publish(node, row(A, "192.0.2.2", "10.80.0.0/24"), row(B, "192.0.2.3", "10.81.0.0/24"))
    await wait_until(lambda: routes().keys() == {"10.80.0.0/24", "10.81.0.0/24"})
    assert "dev cilia_vxlan src 10.66.0.1" in routes()["10.80.0.0/24"]
    publish(node, row(B, "192.0.2.3", "10.81.0.0/24", "10.82.0.0/24"), removes=(A,))
    await wait_until(lambda: routes().keys() == {"10.81.0.0/24", "10.82.0.0/24"})


async def test_routes_outlive_the_agent_and_stale_ones_go_after_its_return(node: Node) -> None:
    await node.start()
    publish(node, row(A, "192.0.2.2", "10.80.0.0/24"), row(B, "192.0.2.3", "10.81.0.0/24"))
    await wait_until(lambda: len(routes()) == 2)
    node.kill()
    assert len(routes()) == 2
    publish(node, removes=(A,))
    await node.start()
    await wait_until(lambda: routes().keys() == {"10.81.0.0/24"})


async def test_a_route_that_somebody_removed_comes_back_and_others_routes_stay(node: Node) -> None:
    await node.start(routes_refresh_seconds=0.2)
    publish(node, row(A, "192.0.2.2", "10.80.0.0/24"))
    await wait_until(lambda: len(routes()) == 1)
    command("ip route add blackhole 10.90.0.0/24")
    command("ip route add blackhole 10.91.0.0/24 proto 193")
    async with told(node, "routes") as heard:
        command("ip route del 10.80.0.0/24")
    await wait_until(lambda: routes().keys() == {"10.80.0.0/24"})
    assert any("the route to 10.80.0.0/24 was missing" in text for change in heard for text in change.found)
    shown = subprocess.run(["ip", "route", "show", "10.90.0.0/24"], check=True, capture_output=True, text=True).stdout
    assert shown.startswith("blackhole")


async def test_native_routes_go_by_the_node_s_address_and_move_with_it(node: Node) -> None:
    command("ip link add under type veth peer name other")
    command("ip address add 198.51.100.1/24 dev under")
    command("ip link set under up")
    command("ip link set other up")
    await node.start(routing="native")
    publish(node, row(A, "198.51.100.2", "10.80.0.0/24"))
    await wait_until(lambda: "10.80.0.0/24" in routes())
    assert routes()["10.80.0.0/24"].startswith("via 198.51.100.2 dev under")
    publish(node, row(A, "198.51.100.9", "10.80.0.0/24"))
    await wait_until(lambda: routes()["10.80.0.0/24"].startswith("via 198.51.100.9"))
    shown = subprocess.run(["ip", "-br", "link"], check=True, capture_output=True, text=True).stdout
    assert "cilia_vxlan" not in shown


async def test_a_node_that_can_t_be_reached_is_named_until_it_can(node: Node) -> None:
    await node.start(routing="native")
    publish(node, row(A, "198.51.100.2", "10.80.0.0/24"))

    async def is_named() -> bool:
        loops = (await node.call("status"))["loops"]
        error = next(loop["last_error"] for loop in loops if loop["name"] == "routes")
        return bool(error == "route to 10.80.0.0/24: Network is unreachable")

    await wait_until(is_named)
    publish(node, removes=(A,))

    async def is_well() -> bool:
        return not await is_named()

    await wait_until(is_well)


async def test_another_routing_mode_leaves_nothing_of_the_former(node: Node) -> None:
    await node.start()
    publish(node, row(A, "192.0.2.2", "10.80.0.0/24"))
    await wait_until(lambda: len(routes()) == 1)
    uplink = {"link_from_uplink", "link_to_uplink"}
    assert links(node) == {"link_from_overlay", "link_to_overlay"} | uplink
    node.stop()
    await node.start(routing="native")
    assert links(node) == uplink
    assert routes() == {}
    node.stop()
    await node.start()
    await wait_until(lambda: len(routes()) == 1)
