"""A real agent on a real kernel and a real bus; only the owners of the tables are stand-ins."""

import asyncio
import json
import socket
import subprocess
import time
from typing import Any

import msgspec
import pytest

from cilia.abi.maps import POLICY
from cilia.abi.structs import PolicyEntry as EntryValue
from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.realisation import Acknowledgement
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.descriptor import get_pinned
from cilia.datapath.maps import Map
from services.agent.config import Config
from services.agent.netlink.tc import TrafficControl
from tests.cluster.agent.node import Node, monitor, until
from tests.cluster.agent.owners import ALLOW_ALL

pytestmark = pytest.mark.cluster


def ping(pod: dict[str, Any], target: dict[str, Any], *options: str) -> "subprocess.Popen[str]":
    inside = ["nsenter", f"--net={pod['netns']}", "ping", "-q", *options, target["ipv4"]]
    return subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)


def answered(process: "subprocess.Popen[str]") -> int:
    """Return how many of the packets came back."""
    out, _ = process.communicate(timeout=90)
    return int(out.split(" received")[0].rsplit(" ", 1)[1])


async def has_rows(node: Node) -> bool:
    return bool(node.owners.rows)


async def policy_error(node: Node) -> str:
    loops = (await node.call("status"))["loops"]
    return str(next(loop["last_error"] for loop in loops if loop["name"] == "policy"))


async def listed(node: Node) -> list[Any]:
    return list((await node.call("endpoint-list"))["endpoints"])


def programs_of(node: Node) -> list[int]:
    """Return the ids of the programs that all pods share; the test runs in the node's namespace."""
    with TrafficControl() as control:
        block = Config(node=NodeName("node1"), ipv4="192.0.2.1").block
        return [found.program_id for each in (block, block + 1) for found in control.block_filters(each)]


def devices() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


async def test_a_created_pod_is_ready_and_talks_to_another(node: Node) -> None:
    await node.start()
    web, db = await node.add_pod("web", app="web"), await node.add_pod("db", app="db")
    assert (web["state"], db["state"]) == ("ready", "ready")
    assert answered(ping(web, db, "-c3", "-i0.05", "-W1")) == 3


async def test_a_pod_is_answered_for_again_when_it_is_asked_for_twice(node: Node) -> None:
    await node.start()
    web = await node.add_pod("web")
    again = await node.call("endpoint-create", namespace="default", name="web", netns=web["netns"])
    assert again == web


async def test_a_namespace_that_is_not_there_is_refused_by_name_and_leaves_nothing(node: Node) -> None:
    await node.start()
    problem = await node.call("endpoint-create", namespace="default", name="web", netns="/run/netns/none")
    assert (problem["code"], problem["field"], problem["value"]) == ("invalid", "netns", "/run/netns/none")
    assert await node.call("endpoint-list") == {"endpoints": []}
    assert not list((node.directory / "state/endpoints").iterdir())


async def test_a_deleted_pod_leaves_nothing(node: Node) -> None:
    await node.start()
    web = await node.add_pod("web")
    assert await node.call("endpoint-delete", namespace="default", name="web") == {}
    assert await node.call("endpoint-delete", namespace="default", name="web") == {}
    assert (await node.call("map-get", name="cilia_endpoints"))["entries"] == []
    ipcache = (await node.call("map-get", name="cilia_ipcache"))["entries"]
    assert web["ipv4"] not in [key["address"] for key, _ in ipcache]
    assert web["host_interface"] not in devices()
    assert node.owners.rows == {}
    assert not list((node.directory / "state/endpoints").iterdir())


async def test_a_killed_agent_comes_back_and_no_packet_is_lost(node: Node) -> None:
    await node.start()
    web, db = await node.add_pod("web", app="web"), await node.add_pod("db", app="db")
    process = ping(web, db, "-c200", "-i0.01", "-W1")
    await asyncio.sleep(0.2)
    node.kill()
    await node.start()
    assert (await node.call("endpoint-get", id=web["id"]))["state"] == "ready"
    assert await asyncio.to_thread(answered, process) == 200


async def test_pods_talk_on_while_bus_and_agent_are_away(node: Node) -> None:
    await node.start()
    web, db = await node.add_pod("web"), await node.add_pod("db")
    node.kill()
    node.nats.kill()
    await asyncio.sleep(0.1)
    assert answered(ping(web, db, "-c3", "-i0.05", "-W1")) == 3
    node.nats.start()
    await node.owners.bus.wait_connected()


async def test_an_agent_that_starts_without_the_bus_keeps_its_pods_and_says_what_it_waits_for(node: Node) -> None:
    await node.start()
    web, db = await node.add_pod("web"), await node.add_pod("db")
    process = ping(web, db, "-c300", "-i0.01", "-W1")
    node.nats.kill()
    node.kill()
    await node.start()
    status = await node.call("status")
    assert (status["state"] == "ready", status["bus_connected"]) == (False, False)
    assert "not connected yet" in next(each["last_error"] for each in status["loops"] if each["name"] == "registration")
    assert {pod["id"] for pod in (await node.call("endpoint-list"))["endpoints"]} == {web["id"], db["id"]}
    assert await asyncio.to_thread(answered, process) == 300
    node.nats.start()
    await node.owners.bus.wait_connected()

    async def ready() -> bool:
        return bool((await node.call("status"))["state"] == "ready")

    await until(ready)


async def test_a_changed_policy_is_acknowledged_once_it_is_in_force(node: Node) -> None:
    await node.start()
    web = await node.add_pod("web")
    acknowledged: asyncio.Queue[Acknowledgement] = asyncio.Queue()

    async def take(message: object) -> None:
        acknowledged.put_nowait(msgspec.json.decode(message.data, type=Acknowledgement))  # type: ignore[attr-defined]

    bus = node.owners.bus
    await bus.subscribe(bus.subjects.ack(), take)
    await bus.flush()
    entry = PolicyEntry(deny=True, precedence=7, cookie=99)
    key = PolicyKey(False, Identity(0), 6, 80, 16)
    began = time.perf_counter()
    revision = node.owners.resolve(web["identity"], {**ALLOW_ALL, key: entry})
    async with asyncio.timeout(30):
        while (message := await acknowledged.get()).subjects != {web["identity"]: revision}:
            assert message.subjects[web["identity"]] < revision
    print(f"acknowledged after {(time.perf_counter() - began) * 1000:.1f} ms")
    rules = (await node.call("policy-get", id=web["id"]))["rules"]
    assert {"key": [False, 0, 6, 80, 16], "entry": [True, 7, 99, False, 0]} in rules
    assert len(rules) == 3


async def test_a_relabelled_pod_has_its_new_identity_in_the_kernel(node: Node) -> None:
    await node.start()
    web = await node.add_pod("web", app="web")
    other = await node.call("endpoint-relabel", endpoint={"id": web["id"]}, labels={"app": "other"})
    assert other["identity"] != web["identity"]
    ((_, value),) = (await node.call("map-get", name="cilia_endpoints"))["entries"]
    assert value["identity"] == other["identity"]


async def test_a_pod_is_not_ready_before_its_policy_is_and_nothing_is_left_when_time_is_up(node: Node) -> None:
    await node.start()
    node.owners.publishers["resolved"].follow()
    node.owners.resolving = False
    problem = await node.call(
        "endpoint-create", namespace="default", name="web", netns=node.add_netns(), timeout_seconds=0.5
    )
    assert problem["code"] == "unavailable"
    assert (await node.call("map-get", name="cilia_endpoints"))["entries"] == []


async def test_the_monitor_shows_flows_by_name(node: Node) -> None:
    await node.start()
    web, db = await node.add_pod("web"), await node.add_pod("db")
    async with monitor(node, "verdict") as reader:
        await node.call("status")
        ping(web, db, "-c1", "-W1").communicate(timeout=30)
        async with asyncio.timeout(30):
            flow = json.loads(await reader.readline())
    assert (flow["verdict"], flow["protocol"]) == ("forwarded", "icmp")
    assert (flow["source"], flow["source_endpoint"]) == (web["ipv4"], "default/web")
    assert (flow["destination"], flow["destination_endpoint"]) == (db["ipv4"], "default/db")


async def test_a_denied_packet_is_reported_with_its_reason(node: Node) -> None:
    await node.start()
    node.owners.policy = {}
    web, db = await node.add_pod("web"), await node.add_pod("db")
    async with monitor(node, "drop") as reader:
        await node.call("status")
        assert answered(ping(web, db, "-c1", "-W1")) == 0
        async with asyncio.timeout(30):
            flow = json.loads(await reader.readline())
    assert (flow["verdict"], flow["reason"], flow["direction"]) == ("dropped", "policy-denied", "egress")


async def test_an_agent_that_is_told_to_stop_ends_well(node: Node) -> None:
    await node.start()
    await node.add_pod("web")
    assert node.stop() == 0


async def test_a_node_that_was_removed_registers_and_publishes_again(node: Node) -> None:
    node.owners.stale_seconds = 1
    await node.start()
    web = await node.add_pod("web")
    node.owners.remove_nodes()
    await until(lambda: has_rows(node))
    (row,) = node.owners.rows.values()
    assert (row.id, row.ipv4, row.identity) == (web["id"], web["ipv4"], web["identity"])
    programs = programs_of(node)
    node.owners.remove_nodes()
    await until(lambda: has_rows(node))
    assert programs_of(node) == programs  # their variables are the same, so they are not loaded anew


async def test_a_policy_that_finds_no_room_is_refused_by_name_and_the_older_one_stays(node: Node) -> None:
    await node.start(maps_policy=8)
    web = await node.add_pod("web")
    many = {PolicyKey(False, Identity(0), 6, port, 16): PolicyEntry(False, 1) for port in range(10)}
    node.owners.resolve(web["identity"], many)
    refusal = await until(lambda: policy_error(node))
    assert refusal == f"policy of identity {web['identity']}: 10 entries wanted, 6 free in cilia_policy"
    assert len((await node.call("policy-get", id=web["id"]))["rules"]) == len(ALLOW_ALL)
    node.owners.resolve(web["identity"], ALLOW_ALL)
    await until(lambda: policy_error(node), gone=True)


async def test_a_pod_that_vanished_while_the_agent_was_away_is_forgotten(node: Node) -> None:
    await node.start()
    web = await node.add_pod("web")
    node.kill()
    subprocess.run(["ip", "netns", "del", web["netns"].rpartition("/")[2]], check=True)
    await asyncio.sleep(0.1)
    await node.start()
    await until(lambda: listed(node), gone=True)
    assert (await node.call("map-get", name="cilia_endpoints"))["entries"] == []


async def test_a_foreign_change_of_the_policy_map_is_repaired_and_reported(node: Node) -> None:
    await node.start(drift_seconds=0.5)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    deny = PolicyEntry(deny=True, precedence=7)
    node.owners.resolve(db["identity"], {**ALLOW_ALL, PolicyKey(False, Identity(0), 1, 8, 16): deny})

    async def denied() -> bool:
        return await asyncio.to_thread(answered, ping(web, db, "-c1", "-W0.2")) == 0

    await until(denied)
    with Map(get_pinned(node.pins / POLICY.name), POLICY) as outside:
        for entry, value in list(outside.items()):
            outside.update(entry, value._replace(deny=0))
        stranger = next(entry for entry, _ in outside.items())._replace(identity=4242)
        outside.update(stranger, EntryValue(1, 0, 0, 0, 0))

    async def reported() -> dict[str, Any]:
        loops = (await node.call("status"))["loops"]
        return next((loop for loop in loops if loop["name"] == "drift" and loop["failures"] > 1), {})

    loop = await until(reported)
    assert (loop["failures"], "not" in loop["last_error"]) == (2, True)
    assert await denied()
    rules = (await node.call("policy-get", id=db["id"]))["rules"]
    assert {"key": [False, 0, 1, 8, 16], "entry": [True, 7, 0, False, 0]} in rules
    assert len(rules) == 3
