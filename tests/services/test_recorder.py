"""The recorder as processes: nothing that was answered is lost, one of many records, shadows are
judged.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cilia.contracts.flows import (
    DistinctFlow,
    FlowPage,
    FlowPeer,
    ListFlows,
    PolicyVerdict,
    RecordedFlow,
    RecordFlows,
    ShadowVerdicts,
)
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Empty
from cilia.contracts.policies import ApplyPolicies, PoliciesChanged
from cilia.errors import Unavailable
from cilia.kvstore import EtcdConfig, connect_kvstore
from laboratory.servers import start_etcd
from laboratory.services import Stage
from services.recorder.flow_store import PIECE, SPARE_PIECES, FlowStore
from services.recorder.flow_table import FlowTable, key_of
from tests.services.ask import ask
from tests.unit.recorder.reports import CLOSED, report
from tests.unit.recorder.test_flow_table import seen

KEYS = Keys("test")


@asynccontextmanager
async def recorder(stage: Stage, *replicas: str, **settings: str) -> AsyncIterator[None]:
    """Run recorders with the services that they hear."""
    for identity, app in ((300, "web"), (301, "db")):
        labels = f"k8s:app={app};k8s:io.kubernetes.pod.namespace=shop;"
        await stage.kvstore.put(f"{Keys(stage.cluster).identities}{identity}", labels.encode())
    async with AsyncExitStack() as stack:
        for name in ("identity", "policy"):
            await stack.enter_async_context(stage.inside(name))
        for replica in replicas:
            await stack.enter_async_context(stage.inside("recorder", replica, **settings))
        yield


async def tell(stage: Stage, message: RecordFlows) -> None:
    """Report, again and again until it is answered, as an agent does."""
    await ask(stage.bus, "recorder", "record", message, Empty)


async def flows(stage: Stage) -> dict[int, int]:
    """Return the counts by port."""
    page = await ask(stage.bus, "recorder", "flows", ListFlows(), FlowPage)
    return {flow.port: flow.count for flow in page.flows}


async def test_what_was_answered_survives_a_kill_and_another_replica_goes_on(stage: Stage) -> None:
    async with recorder(stage), stage.service("recorder", "a", election_seconds="1") as first:
        await tell(stage, report(80, 81))
        async with stage.inside("recorder", "b"):
            await first.kill()
            assert await flows(stage) == {80: 1, 81: 1}
            await tell(stage, report(81, 82, batch="2"))
            assert await flows(stage) == {80: 1, 81: 2, 82: 1}


async def test_a_report_that_comes_twice_counts_once(stage: Stage) -> None:
    async with recorder(stage, "a"):
        for _ in range(3):
            await tell(stage, report(80, count=5))
        await tell(stage, report(80, batch="2"))
        await tell(stage, report(80, batch="1", node="node2"))
        assert await flows(stage) == {80: 7}


async def test_of_many_replicas_one_answers(stage: Stage) -> None:
    async with recorder(stage, "a", "b", "c"):
        for first in range(0, 30, 10):
            ports = range(first, first + 10)
            await asyncio.gather(*(tell(stage, report(port, batch=str(port), node=f"node{port}")) for port in ports))
        assert await flows(stage) == dict.fromkeys(range(30), 1)


async def test_a_policy_in_shadow_changes_nothing_and_tells_what_it_would_do(stage: Stage) -> None:
    async with recorder(stage, "a"):
        await tell(stage, report(80))
        heard: asyncio.Queue[ShadowVerdicts] = asyncio.Queue()

        async def deliver(message: object) -> None:
            await heard.put(msgspec.json.decode(message.data, type=ShadowVerdicts))  # type: ignore[attr-defined]

        await stage.bus.subscribe(stage.bus.subjects.shadow(), deliver)
        request = ApplyPolicies(CLOSED, shadow=True)
        await ask(stage.bus, "policy", "apply", request, PoliciesChanged)
        async with asyncio.timeout(20):
            number = 2
            while heard.empty():
                await tell(stage, report(80, 443, batch=str(number)))
                number += 1
        found = heard.get_nowait()
        assert found.node == "node1"
        assert [(item.allowed, item.would_be, item.flow.port) for item in found.verdicts] == [
            (True, False, 80),
            (True, False, 443),
        ]
        assert found.verdicts[0].policies == ("CiliumNetworkPolicy/shop/closed",)


async def test_a_flow_of_an_identity_that_nobody_knows_is_left_out(stage: Stage) -> None:
    async with recorder(stage, "a"):
        stranger = DistinctFlow(FlowPeer(999), FlowPeer(301), 6, 99, PolicyVerdict.ALLOWED, False)
        known = report(80)
        await tell(stage, msgspec.structs.replace(known, flows=(stranger, *known.flows)))
        assert await flows(stage) == {80: 1}


@pytest.fixture
def many() -> list[RecordedFlow]:
    return [seen(port) for port in range(PIECE + 500)]


async def test_the_record_comes_back_whole_and_stays_in_few_pieces(tmp_path: Path, many: list[RecordedFlow]) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            store = FlowStore(etcd, KEYS)
            table = await store.load(100_000)
            for flow in many:
                table.add(flow)
            await store.write(table, counts=False)
            for turn in range(2 * SPARE_PIECES):
                table.add(msgspec.structs.replace(many[turn], count=5))
                await store.write(table, counts=turn % 2 == 1)
                assert not table.new
            records, _ = await etcd.range(KEYS.flows)
            assert len(records) < SPARE_PIECES + 5
            again = await FlowStore(etcd, KEYS).load(100_000)
            assert again.rows == table.rows
            assert again.since_ns == table.since_ns
            assert again.rows[key_of(many[0])].count == 6
            small = await FlowStore(etcd, KEYS).load(1000)
            assert len(small.rows) <= 1000
            assert small.evicted == len(many) - len(small.rows)


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, many: list[RecordedFlow]) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,), timeout_seconds=0.5)) as etcd:
            store = FlowStore(etcd, KEYS)
            table = FlowTable(100_000, since_ns=3)
            table.add(many[0])
            server.kill()
            with pytest.raises(Unavailable):
                async with asyncio.timeout(60):
                    await store.write(table, counts=True)
            assert table.new == {key_of(many[0])}
