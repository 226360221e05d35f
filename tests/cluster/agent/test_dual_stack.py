"""Pods with an address of each family: one identity, one policy, one life for both."""

import asyncio
import json
import subprocess
from typing import Any

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from tests.cluster.agent.node import Node, monitor, until
from tests.cluster.agent.owners import ALLOW_ALL

pytestmark = pytest.mark.cluster

DUAL = {"pool6": "six"}
ICMPV6, ECHO_REQUEST = 58, 128


def inside(pod: dict[str, Any], *command: str) -> str:
    run = subprocess.run(["nsenter", f"--net={pod['netns']}", *command], capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def answered(pod: dict[str, Any], address: str, count: int = 3) -> int:
    """Return how many of ``count`` pings come back."""
    out = inside(pod, "ping", "-q", f"-c{count}", "-i0.05", "-W1", address)
    return int(out.split(" received")[0].rsplit(" ", 1)[1]) if " received" in out else 0


async def map_of(node: Node, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [tuple(entry) for entry in (await node.call("map-get", name=name, limit=100_000))["entries"]]


async def addresses_in(node: Node, name: str) -> set[str]:
    return {value for key, _ in await map_of(node, name) for field, value in key.items() if "address" in field}


async def test_pods_talk_by_both_families_with_each_other_and_with_their_node(node: Node) -> None:
    await node.start(**DUAL)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    assert (web["ipv6"], db["ipv6"]) == ("fd00:66::2", "fd00:66::3")
    for target in (db["ipv4"], db["ipv6"], web["gateway"], web["gateway_ipv6"]):
        assert (target, answered(web, target)) == (target, 3)
    for own in (web["ipv4"], web["ipv6"]):
        assert subprocess.run(["ping", "-q", "-c1", "-W1", own], check=False, capture_output=True).returncode == 0


async def test_a_node_of_ipv6_alone_connects_its_pods(node: Node) -> None:
    await node.start(pool="", **DUAL)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    assert (web["ipv4"], web["gateway"]) == ("", "")
    assert answered(web, db["ipv6"]) == answered(web, web["gateway_ipv6"]) == 3
    assert "default" not in inside(web, "ip", "-4", "route")


async def test_both_addresses_have_the_identity_and_go_with_the_pod_and_its_flows(node: Node) -> None:
    await node.start(**DUAL)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    both = {web["ipv4"], web["ipv6"]}
    assert answered(web, db["ipv4"]) == answered(web, db["ipv6"]) == 3
    for name in ("cilia_endpoints", "cilia_ipcache"):
        held = {key["address"]: value["identity"] for key, value in await map_of(node, name)}
        assert {held[address] for address in both} == {web["identity"]}
    flows = await addresses_in(node, "cilia_ct4") | await addresses_in(node, "cilia_ct6")
    assert both <= flows
    await node.call("endpoint-delete", namespace="default", name="web")
    for name in ("cilia_endpoints", "cilia_ipcache"):
        assert not both & await addresses_in(node, name)

    async def flows_left() -> set[str]:
        return both & (await addresses_in(node, "cilia_ct4") | await addresses_in(node, "cilia_ct6"))

    await until(flows_left, gone=True)


async def test_a_killed_agent_finds_both_addresses_and_loses_no_packet(node: Node) -> None:
    await node.start(**DUAL)
    web, db = await node.add_pod("web"), await node.add_pod("db")
    pinging = asyncio.create_task(asyncio.to_thread(inside, web, "ping", "-q", "-c200", "-i0.01", "-W1", db["ipv6"]))
    await asyncio.sleep(0.2)
    node.kill()
    await node.start(**DUAL)
    assert " 200 received" in await pinging
    passing = {"policy_revision": 0, "known_everywhere": True}
    assert (await node.call("endpoint-get", id=web["id"])) | passing == web | passing
    assert (await node.add_pod("third"))["ipv6"] == "fd00:66::4"


async def test_a_pod_from_before_keeps_its_family_when_the_node_gets_the_other(node: Node) -> None:
    await node.start()
    old = await node.add_pod("old")
    node.kill()
    await node.start(**DUAL)
    new = await node.add_pod("new")
    assert (old["ipv6"], new["ipv6"] != "") == ("", True)
    assert answered(old, new["ipv4"]) == answered(new, old["ipv4"]) == answered(new, new["gateway_ipv6"]) == 3


async def test_a_pod_that_comes_up_makes_no_noise(node: Node) -> None:
    await node.start(**DUAL)
    node.owners.policy = {}
    async with monitor(node, "drop") as reader:
        await node.call("status")
        web = await node.add_pod("web")
        await asyncio.sleep(2)  # solicitations and reports come soon after a link's start
        assert "fe80" not in inside(web, "ip", "-6", "address")
        assert inside(web, "sysctl", "-n", "net.ipv6.conf.eth0.accept_ra") == "0\n"
        assert answered(web, "fd00:66::99", 1) == 0
        async with asyncio.timeout(30):
            first = json.loads(await reader.readline())
    assert (first["destination"], first["protocol"]) == ("fd00:66::99", "icmpv6")


async def test_a_namespace_in_which_ipv6_is_off_gets_it_for_its_pod(node: Node) -> None:
    await node.start(**DUAL)
    other, path = await node.add_pod("other"), node.add_netns()
    inside({"netns": path}, "sysctl", "-w", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
    pod = await node.call("endpoint-create", namespace="default", name="quiet", netns=path)
    assert answered(pod, other["ipv6"]) == answered(other, pod["ipv6"]) == 3


async def test_icmpv6_is_decided_by_its_own_entries(node: Node) -> None:
    await node.start(**DUAL)
    web, db = await node.add_pod("web"), await node.add_pod("db", app="db")
    deny = PolicyKey(False, Identity(0), ICMPV6, ECHO_REQUEST, 16)
    node.owners.resolve(db["identity"], {**ALLOW_ALL, deny: PolicyEntry(deny=True, precedence=7)})

    async def passes() -> bool:
        return answered(web, db["ipv6"], 1) == 1

    await until(passes, gone=True)
    assert answered(web, db["ipv4"]) == 3
