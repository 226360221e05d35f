import asyncio
import random

import pytest

from cilia.contracts.identity_service import ReleaseIdentity, WithdrawEndpoint
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.ipam import UnregisterNode
from cilia.contracts.messages import Revised
from cilia.errors import BadConfig, Refused
from laboratory.services import Stage
from tests.services.ask import allocate, ask, publish, register


async def test_two_replicas_give_one_number_per_label_set_and_no_number_twice(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.service("identity", "a"), stage.inside("identity", "b"):
        wanted = [f"app=a{number % 40}" for number in range(600)]
        random.Random(7).shuffle(wanted)
        numbers = await asyncio.gather(*(allocate(stage.bus, f"h{index}", label) for index, label in enumerate(wanted)))
        by_label: dict[str, set[Identity]] = {}
        for label, number in zip(wanted, numbers, strict=True):
            by_label.setdefault(label, set()).add(number)
        assert all(len(found) == 1 for found in by_label.values())
        assert len(set().union(*by_label.values())) == 40


async def test_allocations_survive_the_kill_of_a_replica_that_carries_them_out(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.service("identity", "a") as victim, stage.inside("identity", "b"):
        await allocate(stage.bus, "first", "app=first")
        under_way = [
            asyncio.create_task(allocate(stage.bus, f"h{index}", f"app=a{index % 50}")) for index in range(400)
        ]
        await asyncio.sleep(0.05)
        await victim.kill()
        numbers = await asyncio.gather(*under_way)
        again = await asyncio.gather(*(allocate(stage.bus, f"h{i}", f"app=a{i % 50}") for i in range(50)))
        assert [numbers[index] for index in range(50)] == again
        assert all(numbers[index] == again[index % 50] for index in range(400))
        assert len(set(again)) == 50


async def test_the_service_outlives_etcd_and_the_broker(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.service("identity") as service:
        before = await allocate(stage.bus, "n1", "app=web")
        await stage.etcd.restart(after_seconds=0.3)
        assert await allocate(stage.bus, "n2", "app=web") == before
        await stage.nats.restart(after_seconds=0.3)
        assert await allocate(stage.bus, "n3", "app=web") == before
        assert await allocate(stage.bus, "n3", "app=db") != before
        assert service.process.returncode is None


async def test_labels_of_a_reserved_identity_need_no_allocation(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.inside("identity"):
        incarnation = (await register(stage.bus, "n1")).incarnation
        assert await allocate(stage.bus, "n1", "reserved:init") == 5
        assert (await publish(stage.bus, "n1", 4, incarnation, "reserved:health")).endpoint.identity == 4


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("reserved:host", "no workload has labels of this source"),
        ("cidr:10.0.0.0/8", "no workload has labels of this source"),
        ("node:zone=a", "no workload has labels of this source"),
        ("named-port:http/TCP/80", "no workload has labels of this source"),
        ("io.kubernetes.pod.namespace=bank", "the endpoint's namespace is"),
        ("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=bank", "the endpoint's namespace is"),
    ],
)
async def test_no_endpoint_passes_for_what_it_is_not(stage: Stage, label: str, reason: str) -> None:
    async with stage.inside("ipam"), stage.inside("identity"):
        incarnation = (await register(stage.bus, "n1")).incarnation
        with pytest.raises(Refused, match=reason):
            await publish(stage.bus, "n1", 4, incarnation, label, "app=web")
        with pytest.raises(Refused, match=reason):
            await publish(stage.bus, "n1", 4, incarnation, label)
        assert await stage.identities() == set()


async def test_pods_of_one_identity_give_their_port_names_the_same_numbers(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.inside("identity"):
        incarnation = (await register(stage.bus, "n1")).incarnation

        async def identity(number: int, port: int) -> Identity:
            named = (("http", "TCP", port),)
            return (await publish(stage.bus, "n1", number, incarnation, "app=web", named_ports=named)).endpoint.identity

        old, new, other_old = await identity(1, 8080), await identity(2, 9090), await identity(3, 8080)
        assert old == other_old != new
        plain = await publish(stage.bus, "n1", 4, incarnation, "app=web")
        assert plain.endpoint.identity not in (old, new)


async def test_a_full_range_is_a_clear_problem_and_known_label_sets_still_work(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.inside("identity", identities="256-265"):
        numbers = await asyncio.gather(*(allocate(stage.bus, "n1", f"app=a{index}") for index in range(10)))
        assert sorted(numbers) == list(range(256, 266))
        with pytest.raises(Refused, match=r"exhausted: all 10 identities \(256 to 265\) are in use"):
            await allocate(stage.bus, "n1", "app=one-too-many")
        assert await allocate(stage.bus, "other", "app=a3") == numbers[3]


async def until_there_are(stage: Stage, identities: set[Identity]) -> None:
    async with asyncio.timeout(60):
        while await stage.identities() != identities:  # noqa: ASYNC110 - rounds of another process
            await asyncio.sleep(0.02)


async def test_an_unused_identity_is_collected_and_a_used_one_stays(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.inside("identity", gc_seconds="0.1"):
        incarnation = (await register(stage.bus, "n1")).incarnation
        kept = await allocate(stage.bus, "n1", "app=kept")
        row = await publish(stage.bus, "n1", 7, incarnation, "app=pod")
        gone = await allocate(stage.bus, "n1", "app=gone")
        await ask(stage.bus, "identity", "release", ReleaseIdentity(gone, "n1"), Revised)
        await until_there_are(stage, {kept, row.endpoint.identity})
        await ask(stage.bus, "identity", "withdraw", WithdrawEndpoint(NodeName("n1"), EndpointId(7)), Revised)
        await until_there_are(stage, {kept})
        await asyncio.sleep(0.3)
        assert await stage.identities() == {kept}, "the used one stays over more rounds"


async def test_no_use_that_begins_during_collection_is_lost(stage: Stage) -> None:
    """Endpoints come and go faster than rounds; whenever one is there, so must be its identity."""
    async with (
        stage.inside("ipam"),
        stage.inside("identity", "a", gc_seconds="0.02"),
        stage.service("identity", "b", gc_seconds="0.02"),
    ):
        incarnation = (await register(stage.bus, "n1")).incarnation

        async def churn(number: int) -> None:
            chance = random.Random(number)
            for _ in range(25):
                published = await publish(stage.bus, "n1", number, incarnation, f"app=a{number}")
                await asyncio.sleep(chance.uniform(0, 0.06))
                assert published.endpoint.identity in await stage.identities()
                await ask(
                    stage.bus, "identity", "withdraw", WithdrawEndpoint(NodeName("n1"), EndpointId(number)), Revised
                )
                await asyncio.sleep(chance.uniform(0, 0.08))

        await asyncio.gather(*(churn(number) for number in range(1, 9)))


async def test_a_node_that_is_no_member_is_told_so_that_it_registers_anew(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.inside("identity"):
        registered = await register(stage.bus, "n1")
        await ask(stage.bus, "ipam", "unregister", UnregisterNode(registered.node.name), Revised)
        again = await register(stage.bus, "n1")
        for incarnation in (registered.incarnation, 12345, 0):
            for labels in (("app=web",), ("reserved:health",)):
                with pytest.raises(Refused) as caught:
                    await publish(stage.bus, "n1", 7, incarnation, *labels)
                assert (caught.value.problem.code, caught.value.problem.field) == ("not_found", "incarnation")
        assert await stage.endpoints() == set()
        await publish(stage.bus, "n1", 7, again.incarnation, "app=web")


@pytest.mark.parametrize("labels", [(), ("a;b",), ("=x",), ("app=1", "app=2")])
async def test_impossible_labels_are_refused_by_field(stage: Stage, labels: tuple[str, ...]) -> None:
    async with stage.inside("identity"):
        with pytest.raises(Refused) as caught:
            await allocate(stage.bus, "n1", *labels)
        assert (caught.value.problem.code, caught.value.problem.field) == ("invalid", "labels")


async def test_a_bad_setting_ends_the_service_with_its_name_and_value(stage: Stage) -> None:
    async with stage.service("identity", cluster_id="256") as service:
        assert await service.wait() == 2
        assert "cluster_id" in service.log.read_text()
        assert "256" in service.log.read_text()


@pytest.mark.parametrize(("setting", "value"), [("cluster_id", "256"), ("identities", "1-5"), ("gc_seconds", "0")])
async def test_a_bad_setting_is_refused_with_its_name_and_value(stage: Stage, setting: str, value: str) -> None:
    with pytest.raises(BadConfig, match=f"{setting}.*{value}") as caught:
        await stage.run_inside("identity", **{setting: value})
    assert caught.value.exit_code == 2


async def test_labels_that_change_with_every_pod_make_no_identity(stage: Stage) -> None:
    async with stage.inside("ipam"), stage.inside("identity"):
        plain = await allocate(stage.bus, "h0", "app=web")
        hashed = [f"pod-template-hash={number}" for number in range(3)]
        numbers = [await allocate(stage.bus, f"h{label}", "app=web", label) for label in hashed]
        assert set(numbers) == {plain}
        with pytest.raises(Refused, match="none of them counts"):
            await allocate(stage.bus, "h9", "pod-template-hash=1")
