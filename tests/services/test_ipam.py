import asyncio
import re
from ipaddress import ip_network

import pytest

from cilia.contracts.ids import LeaseId, NodeName
from cilia.contracts.ipam import Granted, GrowBlocks, Heartbeat, Registered, RegisterNode, ShrinkBlocks, UnregisterNode
from cilia.contracts.messages import Empty, Revised
from cilia.errors import BadConfig, Refused
from laboratory.services import Stage
from tests.services.ask import ask, publish, register

SMALL = {"pools": "default=10.244.0.0/24/26"}
N1 = NodeName("n1")


async def unregister(stage: Stage, name: str) -> None:
    await ask(stage.bus, "ipam", "unregister", UnregisterNode(NodeName(name)), Revised)


async def until_no_node_is_left(stage: Stage) -> None:
    async with asyncio.timeout(60):
        while await stage.nodes():  # noqa: ASYNC110 - leases end in etcd
            await asyncio.sleep(0.05)


async def grow(stage: Stage, node: Registered) -> str:
    return (await ask(stage.bus, "ipam", "grow", GrowBlocks(node.node.name, node.lease), Granted)).cidr


async def test_nodes_that_register_at_once_with_two_replicas_share_no_address(stage: Stage) -> None:
    async with stage.service("ipam", "a"), stage.inside("ipam", "b"):
        nodes = await asyncio.gather(*(register(stage.bus, f"n{i}", f"192.0.2.{i}") for i in range(1, 61)))
        blocks = [ip_network(cidr) for node in nodes for cidr in node.node.pod_cidrs]
        assert len(set(blocks)) == 60
        assert len({node.lease for node in nodes}) == 60
        assert all(block.subnet_of(ip_network("10.0.0.0/8")) for block in blocks)  # type: ignore[arg-type]


async def test_registering_again_keeps_lease_and_blocks_and_updates_labels(stage: Stage) -> None:
    async with stage.inside("ipam", "a"), stage.inside("ipam", "b"):
        first = await register(stage.bus, "n1")
        again = await asyncio.gather(*(register(stage.bus, "n1") for _ in range(10)))
        assert {(each.lease, each.node) for each in again} == {(first.lease, first.node)}
        request = RegisterNode(N1, "192.0.2.1", labels=("zone=a",))
        labelled = await ask(stage.bus, "ipam", "register", request, Registered)
        assert (labelled.lease, labelled.node.pod_cidrs) == (first.lease, first.node.pod_cidrs)
        assert labelled.node.labels == ("zone=a",)


async def test_one_name_on_two_machines_is_a_conflict_that_names_both(stage: Stage) -> None:
    async with stage.inside("ipam"):
        await register(stage.bus, "n1", "192.0.2.1")
        with pytest.raises(Refused, match=r"conflict: .*'n1'.*192\.0\.2\.1.*192\.0\.2\.9"):
            await register(stage.bus, "n1", "192.0.2.9")


async def test_a_node_that_shows_its_lease_comes_back_with_another_address(stage: Stage) -> None:
    async with stage.inside("ipam"):
        first = await register(stage.bus, "n1", "192.0.2.1")
        request = RegisterNode(N1, "192.0.2.9", lease=first.lease)
        moved = await ask(stage.bus, "ipam", "register", request, Registered)
        assert (moved.lease, moved.node.ipv4) == (first.lease, "192.0.2.9")
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


async def test_heartbeats_keep_a_node_and_without_them_all_it_had_goes(stage: Stage) -> None:
    async with stage.inside("ipam", lease_seconds="2", **SMALL), stage.inside("identity"):
        kept, lost = await register(stage.bus, "n1"), await register(stage.bus, "n2", "192.0.2.2")
        await publish(stage.bus, "n2", 7, lost.lease, "app=web")
        async with asyncio.timeout(60):
            while "n2" in await stage.nodes():
                await ask(stage.bus, "ipam", "heartbeat", Heartbeat(N1, kept.lease), Empty)
                await asyncio.sleep(0.1)
        assert await stage.nodes() == {"n1"}
        assert await stage.endpoints() == set()
        with pytest.raises(Refused) as caught:
            await ask(stage.bus, "ipam", "heartbeat", Heartbeat(NodeName("n2"), lost.lease), Empty)
        assert (caught.value.problem.code, caught.value.problem.field) == ("not_found", "lease")


async def test_a_node_that_returns_after_its_lease_gets_its_blocks_back(stage: Stage) -> None:
    async with stage.inside("ipam", lease_seconds="1", pools="default=10.244.0.0/25/26"):
        first = await register(stage.bus, "n1")
        await grow(stage, first)
        blocks = (await register(stage.bus, "n1")).node.pod_cidrs
        await until_no_node_is_left(stage)
        back = await register(stage.bus, "n1")
        assert back.lease != first.lease
        assert back.node.pod_cidrs == blocks


async def test_what_an_absent_node_had_is_granted_when_nothing_else_is_free(stage: Stage) -> None:
    async with stage.inside("ipam", lease_seconds="1", pools="default=10.244.0.0/25/26"):
        absent = await register(stage.bus, "n1")
        await until_no_node_is_left(stage)
        other = await register(stage.bus, "n2", "192.0.2.2")
        assert other.node.pod_cidrs != absent.node.pod_cidrs
        assert await grow(stage, other) == absent.node.pod_cidrs[0]
        with pytest.raises(Refused, match="exhausted"):
            await register(stage.bus, "n1")


async def test_a_node_that_unregisters_leaves_nothing_behind(stage: Stage) -> None:
    async with stage.inside("ipam", **SMALL):
        for name in ("n1", "n2", "n3", "n4", "n5", "n6"):
            await register(stage.bus, name)
            await unregister(stage, name)
        await unregister(stage, "n6")
        assert await stage.nodes() == set()
        with pytest.raises(Refused) as caught:
            await ask(stage.bus, "ipam", "grow", GrowBlocks(N1, LeaseId(1)), Granted)
        assert (caught.value.problem.code, caught.value.problem.field) == ("not_found", "lease")


DUAL = {"pools": "default=10.244.0.0/16/26,six=fd00::/48/64"}


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
        grown = await ask(stage.bus, "ipam", "grow", GrowBlocks(NodeName("n2"), only.lease, "six"), Granted)
        assert ip_network(grown.cidr).version == 6
        assert await stage.pools() == {"default", "six"}


async def test_a_node_that_asks_for_ipv6_later_gets_it_beside_what_it_has(stage: Stage) -> None:
    async with stage.inside("ipam", **DUAL):
        before = await register(stage.bus, "n1")
        after, again = await register(stage.bus, "n1", pool6="six"), await register(stage.bus, "n1", pool6="six")
        assert families(after) == [4, 6]
        assert (after.lease, after.node.pod_cidrs[0]) == (before.lease, before.node.pod_cidrs[0])
        assert again.node == after.node


async def test_a_node_that_returns_after_its_lease_has_both_families_again(stage: Stage) -> None:
    async with stage.inside("ipam", lease_seconds="1", **DUAL):
        first = await register(stage.bus, "n1", pool6="six")
        await until_no_node_is_left(stage)
        assert (await register(stage.bus, "n1", pool6="six")).node.pod_cidrs == first.node.pod_cidrs


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
        assert (again.lease, again.node.pod_cidrs) == (first.lease, first.node.pod_cidrs)
        assert len(await grow(stage, again)) > 0
