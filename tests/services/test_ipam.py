import asyncio
import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import pytest
from msgspec import structs

from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import (
    Granted,
    GrowBlocks,
    Heartbeat,
    Registered,
    RegisterNode,
    ShrinkBlocks,
    TellAddresses,
    UnregisterNode,
)
from cilia.contracts.messages import Empty, Revised
from cilia.errors import BadConfig, Refused
from laboratory.services import Stage
from tests.services.ask import ask, publish, register

SMALL = {"pools": "default=10.244.0.0/24/26"}
DUAL = {"pools": "default=10.244.0.0/16/26,six=fd00::/48/64"}
DYING = {"stale_seconds": "0.5", "dead_seconds": "1"}
N1 = NodeName("n1")


async def unregister(stage: Stage, name: str) -> None:
    await ask(stage.bus, "ipam", "unregister", UnregisterNode(NodeName(name)), Revised)


async def nothing() -> None:
    """Do nothing."""


async def until(
    read: Callable[[], Awaitable[set[str]]], wanted: set[str], meanwhile: Callable[[], Awaitable[None]] = nothing
) -> None:
    async with asyncio.timeout(60):
        while await read() != wanted:
            await meanwhile()
            await asyncio.sleep(0.05)


async def beat(stage: Stage, node: Registered) -> None:
    await ask(stage.bus, "ipam", "heartbeat", Heartbeat(node.node.name, node.incarnation), Empty)


async def grow(stage: Stage, node: Registered) -> str:
    return (await ask(stage.bus, "ipam", "grow", GrowBlocks(node.node.name, node.incarnation), Granted)).cidr


async def test_nodes_that_register_at_once_with_two_replicas_share_no_address(stage: Stage) -> None:
    async with stage.service("ipam", "a"), stage.inside("ipam", "b"):
        nodes = await asyncio.gather(*(register(stage.bus, f"n{i}", f"192.0.2.{i}") for i in range(1, 61)))
        blocks = [ip_network(cidr) for node in nodes for cidr in node.node.pod_cidrs]
        assert len(set(blocks)) == 60
        assert all(block.subnet_of(ip_network("10.0.0.0/8")) for block in blocks)  # type: ignore[arg-type]


async def test_registering_again_keeps_incarnation_and_blocks_and_updates_labels(stage: Stage) -> None:
    async with stage.inside("ipam", "a"), stage.inside("ipam", "b"):
        first = await register(stage.bus, "n1")
        again = await asyncio.gather(*(register(stage.bus, "n1") for _ in range(10)))
        assert {(each.incarnation, each.node) for each in again} == {(first.incarnation, first.node)}
        request = RegisterNode(N1, "192.0.2.1", labels=("zone=a",))
        labelled = await ask(stage.bus, "ipam", "register", request, Registered)
        assert (labelled.incarnation, labelled.node.pod_cidrs) == (first.incarnation, first.node.pod_cidrs)
        assert labelled.node.labels == ("zone=a",)


async def tell(stage: Stage, node: Registered, *addresses: str) -> Revised:
    request = TellAddresses(node.node.name, node.incarnation, addresses)
    return await ask(stage.bus, "ipam", "addresses", request, Revised)


async def test_a_nodes_addresses_are_entered_and_outlast_its_registrations(stage: Stage) -> None:
    async with stage.inside("ipam", "a"), stage.inside("ipam", "b"):
        first = await register(stage.bus, "n1")
        told = await tell(stage, first, "192.0.2.1", "2001:db8::1")
        assert await tell(stage, first, "192.0.2.1", "2001:db8::1") == told, "nothing was written"
        again = await register(stage.bus, "n1")
        assert again.node.addresses == ("192.0.2.1", "2001:db8::1")
        assert again.node.pod_cidrs == first.node.pod_cidrs
        await tell(stage, first)
        assert (await register(stage.bus, "n1")).node.addresses == ()


async def test_addresses_that_make_no_sense_are_refused(stage: Stage) -> None:
    async with stage.inside("ipam"):
        node = await register(stage.bus, "n1")
        with pytest.raises(Refused, match=r"addresses: '192\.0\.2'"):
            await tell(stage, node, "192.0.2.1", "192.0.2")
        with pytest.raises(Refused, match="more than 64"):
            await tell(stage, node, *(f"192.0.2.{each}" for each in range(65)))
        with pytest.raises(Refused, match="not_found"):
            await tell(stage, structs.replace(node, incarnation=Incarnation(1)), "192.0.2.1")


async def test_one_name_on_two_machines_is_a_conflict_that_names_both(stage: Stage) -> None:
    async with stage.inside("ipam"):
        await register(stage.bus, "n1", "192.0.2.1")
        with pytest.raises(Refused, match=r"conflict: .*'n1'.*192\.0\.2\.1.*192\.0\.2\.9"):
            await register(stage.bus, "n1", "192.0.2.9")


async def test_a_node_that_shows_its_incarnation_comes_back_with_another_address(stage: Stage) -> None:
    async with stage.inside("ipam"):
        first = await register(stage.bus, "n1", "192.0.2.1")
        request = RegisterNode(N1, "192.0.2.9", incarnation=first.incarnation)
        moved = await ask(stage.bus, "ipam", "register", request, Registered)
        assert (moved.incarnation, moved.node.ipv4) == (first.incarnation, "192.0.2.9")
        assert moved.node.pod_cidrs == first.node.pod_cidrs


async def test_an_exhausted_pool_is_named_with_its_size(stage: Stage) -> None:
    async with stage.inside("ipam", **SMALL):
        node = await register(stage.bus, "n1")
        granted = {*node.node.pod_cidrs, *[await grow(stage, node) for _ in range(3)]}
        assert len(granted) == 4
        expected = r"exhausted: pool 'default' is exhausted: all 4 blocks of /26 in 10\.244\.0\.0/24"
        with pytest.raises(Refused, match=expected):
            await grow(stage, node)
        with pytest.raises(Refused, match=expected):
            await register(stage.bus, "n2", "192.0.2.2")


async def test_a_block_given_back_is_free_for_others(stage: Stage) -> None:
    async with stage.inside("ipam", **SMALL):
        node = await register(stage.bus, "n1")
        blocks = [await grow(stage, node) for _ in range(3)]
        await ask(stage.bus, "ipam", "shrink", ShrinkBlocks(N1, blocks[1]), Revised)
        again = await register(stage.bus, "n1")
        assert again.node.pod_cidrs == (*node.node.pod_cidrs, blocks[0], blocks[2])
        assert (await register(stage.bus, "n2", "192.0.2.2")).node.pod_cidrs == (blocks[1],)


async def test_a_silent_node_is_said_to_be_stale_and_keeps_all_that_it_has(stage: Stage) -> None:
    async with stage.inside("ipam", stale_seconds="1", **SMALL), stage.inside("identity"):
        silent = await register(stage.bus, "n1")
        await publish(stage.bus, "n1", 7, silent.incarnation, "app=web")
        await until(stage.stale, {"n1"})
        assert (await stage.nodes(), await stage.endpoints()) == ({"n1"}, {"n1/7"})
        await beat(stage, silent)
        await until(stage.stale, set())
        assert await stage.nodes() == {"n1"}


async def test_a_node_that_is_silent_for_very_long_is_removed_and_hears_so_when_it_returns(stage: Stage) -> None:
    async with stage.inside("ipam", **DYING, **SMALL), stage.inside("identity"):
        kept, dead = await register(stage.bus, "n1"), await register(stage.bus, "n2", "192.0.2.2")
        await publish(stage.bus, "n2", 7, dead.incarnation, "app=web")
        await until(stage.nodes, {"n1"}, meanwhile=lambda: beat(stage, kept))
        assert (await stage.endpoints(), await stage.stale()) == (set(), set())
        with pytest.raises(Refused) as caught:
            await beat(stage, dead)
        assert (caught.value.problem.code, caught.value.problem.field) == ("not_found", "incarnation")


async def test_a_node_that_returns_gets_its_blocks_back_of_both_families(stage: Stage) -> None:
    async with stage.inside("ipam", **DYING, **DUAL):
        other, first = await register(stage.bus, "n2", "192.0.2.2"), await register(stage.bus, "n1", pool6="six")
        await grow(stage, first)
        blocks = (await register(stage.bus, "n1")).node.pod_cidrs
        await until(stage.nodes, {"n2"}, meanwhile=lambda: beat(stage, other))
        back = await register(stage.bus, "n1", pool6="six")
        assert back.incarnation != first.incarnation
        assert back.node.pod_cidrs == blocks


async def test_what_an_absent_node_had_is_granted_when_nothing_else_is_free(stage: Stage) -> None:
    async with stage.inside("ipam", **DYING, pools="default=10.244.0.0/25/26"):
        other, absent = await register(stage.bus, "n2", "192.0.2.2"), await register(stage.bus, "n1")
        await until(stage.nodes, {"n2"}, meanwhile=lambda: beat(stage, other))
        assert await grow(stage, other) == absent.node.pod_cidrs[0]
        with pytest.raises(Refused, match="exhausted"):
            await register(stage.bus, "n1")


async def test_a_node_is_removed_by_hand_unless_it_lives(stage: Stage) -> None:
    async with stage.inside("ipam", stale_seconds="1", **SMALL):
        node = await register(stage.bus, "n1")
        await beat(stage, node)
        request = UnregisterNode(N1, only_stale=True)
        with pytest.raises(Refused, match="conflict: node 'n1' is not stale"):
            await ask(stage.bus, "ipam", "unregister", request, Revised)
        await until(stage.stale, {"n1"})
        await ask(stage.bus, "ipam", "unregister", request, Revised)
        assert (await stage.nodes(), await stage.stale()) == (set(), set())


async def test_a_node_that_unregisters_leaves_nothing_behind(stage: Stage) -> None:
    async with stage.inside("ipam", **SMALL):
        for name in ("n1", "n2", "n3", "n4", "n5", "n6"):
            await register(stage.bus, name)
            await unregister(stage, name)
        await unregister(stage, "n6")
        assert await stage.nodes() == set()
        with pytest.raises(Refused) as caught:
            await ask(stage.bus, "ipam", "grow", GrowBlocks(N1, Incarnation(1)), Granted)
        assert (caught.value.problem.code, caught.value.problem.field) == ("not_found", "incarnation")


def families(node: Registered) -> list[int]:
    return [ip_network(cidr).version for cidr in node.node.pod_cidrs]


async def test_a_node_gets_blocks_of_the_families_that_it_asks_for(stage: Stage) -> None:
    async with stage.inside("ipam", **DUAL):
        both = await register(stage.bus, "n1", pool6="six")
        only = await register(stage.bus, "n2", "192.0.2.2", pool="", pool6="six")
        assert (families(both), families(only)) == ([4, 6], [6])
        blocks = [ip_network(cidr) for cidr in (*both.node.pod_cidrs, *only.node.pod_cidrs)]
        assert len(set(blocks)) == 3
        assert all(block.subnet_of(ip_network("fd00::/48")) for block in blocks if block.version == 6)  # type: ignore[arg-type]
        grown = await ask(stage.bus, "ipam", "grow", GrowBlocks(NodeName("n2"), only.incarnation, "six"), Granted)
        assert ip_network(grown.cidr).version == 6
        assert await stage.pools() == {"default", "six"}


async def test_a_node_that_asks_for_ipv6_later_gets_it_beside_what_it_has(stage: Stage) -> None:
    async with stage.inside("ipam", **DUAL):
        before = await register(stage.bus, "n1")
        after, again = await register(stage.bus, "n1", pool6="six"), await register(stage.bus, "n1", pool6="six")
        assert families(after) == [4, 6]
        assert (after.incarnation, after.node.pod_cidrs[0]) == (before.incarnation, before.node.pod_cidrs[0])
        assert again.node == after.node


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (RegisterNode(NodeName("N.1"), "192.0.2.1"), "name"),
        (RegisterNode(N1, "nowhere"), "ipv4"),
        (RegisterNode(N1, "fd00::1"), "ipv4"),
        (RegisterNode(N1, "192.0.2.1", ipv6="192.0.2.1"), "ipv6"),
        (RegisterNode(N1, "192.0.2.1", pool="nope"), "pool"),
        (RegisterNode(N1, "192.0.2.1", pool=""), "pool"),
        (RegisterNode(N1, "192.0.2.1", pool6="nope"), "pool6"),
        (RegisterNode(N1, "192.0.2.1", pool6="default"), "pool6"),
        (RegisterNode(N1, "192.0.2.1", pool="six"), "pool"),
    ],
)
async def test_an_impossible_registration_is_refused_by_field(stage: Stage, request_: RegisterNode, field: str) -> None:
    async with stage.inside("ipam", **DUAL):
        with pytest.raises(Refused) as caught:
            await ask(stage.bus, "ipam", "register", request_, Registered)
        assert caught.value.problem.field == field


async def test_impossible_pools_end_the_service_with_setting_and_value(stage: Stage) -> None:
    async with stage.service("ipam", pools="nonsense") as service:
        assert await service.wait() == 2
        assert "pools" in service.log.read_text()
        assert "nonsense" in service.log.read_text()


@pytest.mark.parametrize("pools", ["default=10.0.0.0/33/34", "default=10.0.0.0/24/16", "nonsense"])
async def test_impossible_pools_are_refused_with_setting_and_value(stage: Stage, pools: str) -> None:
    with pytest.raises(BadConfig, match=f"pools.*{re.escape(pools)}") as caught:
        await stage.run_inside("ipam", pools=pools)
    assert caught.value.exit_code == 2


async def test_a_pool_may_grow_but_not_move_or_overlap_one_in_use(stage: Stage) -> None:
    async with stage.inside("ipam", pools="default=10.244.0.0/24/26"):
        await register(stage.bus, "n1")
    async with stage.inside("ipam", pools="default=10.244.0.0/16/26"):
        await register(stage.bus, "n2", "192.0.2.2")
    for pools in ("default=10.99.0.0/16/26", "default=10.244.0.0/16/27", "other=10.244.7.0/24/26"):
        with pytest.raises(BadConfig, match=r"10\.244\.0\.0/16") as caught:
            await stage.run_inside("ipam", pools=pools)
        assert caught.value.exit_code == 2


async def test_a_killed_replica_is_replaced_by_the_other_without_a_gap_in_service(stage: Stage) -> None:
    async with stage.service("ipam", "a") as victim, stage.inside("ipam", "b"):
        first = await register(stage.bus, "n1")
        await victim.kill()
        again = await register(stage.bus, "n1")
        assert (again.incarnation, again.node.pod_cidrs) == (first.incarnation, first.node.pod_cidrs)
        assert len(await grow(stage, again)) > 0
