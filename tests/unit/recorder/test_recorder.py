"""The recorder over fakes: what is answered is stored, what comes twice counts once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import msgspec
import pytest

from cilia.contracts.flows import (
    FlowPage,
    ListFlows,
    RecordFlows,
    ShadowVerdicts,
)
from cilia.contracts.ids import Identity
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Empty
from cilia.contracts.tables import IDENTITIES, ONE_SHARD, POLICIES, IdentityRow, PolicyObject
from cilia.errors import Refused, Unavailable
from cilia.policy.language.parse import parse_policies, put_in_shadow
from cilia.table.publisher import TablePublisher
from cilia.table.subscriber import ALL, TableSubscriber
from services.recorder.config import Config
from services.recorder.flow_store import FlowStore
from services.recorder.recorder import IDENTITY_SECONDS, STORED_SECONDS, WRITE_SECONDS, Recorder, RecorderCounters
from services.recorder.shadow_policies import ShadowPolicies
from tests.fakes.bus import Broker
from tests.fakes.clock import end, in_fake_time, now
from tests.fakes.etcd import FakeEtcd
from tests.unit.recorder.reports import CLOSED, flow, report
from tests.unit.recorder.test_flow_table import LABELS

KEYS = Keys("test")


class Stage:
    """A recorder, the tables that it hears, and an agent that asks it."""

    def __init__(self, etcd: FakeEtcd | None = None, **settings: object) -> None:
        broker = Broker()
        self.etcd = etcd or FakeEtcd()
        self.counters = RecorderCounters()
        self.agent, bus, owner = broker.bus(), broker.bus(), broker.bus()
        self.identities = TablePublisher(owner, IDENTITIES, clock=now)
        self.policies = TablePublisher(owner, POLICIES, clock=now)
        rows = {Identity(number): IdentityRow(labels) for number, labels in LABELS.items()}
        self.identities.reset(rows, 5, 1)
        self.policies.reset({}, 5, 1)
        heard = TableSubscriber(bus, IDENTITIES, ALL, clock=now)
        policies = TableSubscriber(bus, POLICIES, [ONE_SHARD], clock=now)
        self.shadows = ShadowPolicies(policies, remember=100)
        store = FlowStore(self.etcd, KEYS, clock_ns=count(1).__next__)
        config = msgspec.structs.replace(Config(), **settings)
        self.recorder = Recorder(bus, store, config, heard, self.shadows, self.counters, clock=now)
        self.loops = [heard.run, policies.run, self.shadows.watch, self.recorder.run]
        for publisher in (self.identities, self.policies):
            publisher.lead()
            self.loops += publisher.loops().values()

    async def flows(self) -> dict[int, int]:
        subject = self.agent.subjects.request("recorder", "flows")
        page = await self.agent.request(subject, ListFlows(), FlowPage)
        return {flow.port: flow.count for flow in page.flows}


@asynccontextmanager
async def recording(etcd: FakeEtcd | None = None, **settings: object) -> AsyncIterator[Stage]:
    stage = Stage(etcd, **settings)
    tasks = [asyncio.ensure_future(loop()) for loop in stage.loops]
    await asyncio.sleep(0.5)
    try:
        yield stage
    finally:
        await end(*tasks)


async def tell(stage: Stage, message: RecordFlows) -> None:
    """Report straight to the recorder, as its call does."""
    await stage.recorder.record(message)


@in_fake_time
async def test_what_is_answered_is_in_etcd_and_another_replica_goes_on_with_it() -> None:
    etcd = FakeEtcd()
    async with recording(etcd) as stage:
        await tell(stage, report(80, 81))
    async with recording(etcd) as stage:
        assert await stage.flows() == {80: 1, 81: 1}
        await tell(stage, report(81, 82, batch="2"))
        assert await stage.flows() == {80: 1, 81: 2, 82: 1}


@in_fake_time
async def test_a_report_that_comes_twice_counts_once_and_per_node() -> None:
    async with recording() as stage:
        for _ in range(3):
            await tell(stage, report(80, count=5))
        await tell(stage, report(80, batch="2"))
        await tell(stage, report(80, batch="1", node="n2"))
        assert await stage.flows() == {80: 7}
        assert (stage.counters.reports, stage.counters.repeated) == (5, 2)


@in_fake_time
async def test_reports_that_wait_for_etcd_are_stored_by_one_writing() -> None:
    async with recording() as stage:
        before = stage.etcd.transactions
        await asyncio.gather(*(tell(stage, report(port, node=f"n{port}")) for port in range(50)))
        assert stage.etcd.transactions - before <= 5
        assert len(await stage.flows()) == 50


@in_fake_time
async def test_a_flow_that_is_known_is_answered_without_a_writing() -> None:
    async with recording() as stage:
        await tell(stage, report(80))
        before, at = stage.etcd.transactions, now()
        await tell(stage, report(80, batch="2"))
        assert (stage.etcd.transactions, now()) == (before, at)


@in_fake_time
async def test_counts_are_stored_now_and_then() -> None:
    etcd = FakeEtcd()
    async with recording(etcd, counts_seconds=60.0) as stage:
        await tell(stage, report(80))
        await tell(stage, report(80, batch="2", count=10))
        await asyncio.sleep(130)
    async with recording(etcd) as stage:
        assert await stage.flows() == {80: 11}


@in_fake_time
async def test_while_etcd_is_away_reports_are_not_answered_and_stored_once_it_is_back() -> None:
    etcd = FakeEtcd()
    async with recording(etcd) as stage:
        etcd.away = True
        at = now()
        with pytest.raises(Unavailable, match="isn't written yet"):
            await tell(stage, report(80))
        assert now() - at == STORED_SECONDS
        etcd.away = False
        await tell(stage, report(80))  # the agent sends it again
        assert stage.counters.repeated == 1
    async with recording(etcd) as stage:
        assert await stage.flows() == {80: 1}


@in_fake_time
async def test_writings_keep_their_distance() -> None:
    async with recording() as stage:
        at, before = now(), stage.etcd.transactions
        for port in range(20):
            await tell(stage, report(port, batch=str(port)))
        assert now() - at >= 18 * WRITE_SECONDS
        assert stage.etcd.transactions - before <= 22


@in_fake_time
async def test_a_young_identity_is_waited_for_and_one_that_stays_unknown_is_left_out() -> None:
    async with recording() as stage:
        telling = asyncio.create_task(tell(stage, RecordFlows("n1", (flow(80, source=500),), "1")))
        await asyncio.sleep(IDENTITY_SECONDS / 2)
        stage.identities.commit(6, {Identity(500): IdentityRow(("k8s:app=young",))})
        await telling
        assert await stage.flows() == {80: 1}
        at = now()
        await tell(stage, RecordFlows("n1", (flow(81, source=999), flow(82)), "2"))
        assert now() - at >= IDENTITY_SECONDS
        assert await stage.flows() == {80: 1, 82: 1}
        assert stage.counters.unknown == 1


@in_fake_time
async def test_what_agents_had_no_room_for_is_counted() -> None:
    async with recording() as stage:
        await tell(stage, msgspec.structs.replace(report(80), lost=7))
        assert stage.counters.lost == 7


@in_fake_time
async def test_the_record_is_bounded() -> None:
    async with recording(distinct_flows=10) as stage:
        for number in range(4):
            await tell(stage, report(*range(number * 5, number * 5 + 5), batch=str(number)))
        assert stage.recorder.flows <= 10
        assert stage.recorder.evicted >= 10


@in_fake_time
async def test_a_policy_in_shadow_tells_what_it_would_do() -> None:
    async with recording() as stage:
        heard: list[ShadowVerdicts] = []

        async def deliver(message: object) -> None:
            heard.append(msgspec.json.decode(message.data, type=ShadowVerdicts))  # type: ignore[attr-defined]

        await stage.agent.subscribe(stage.agent.subjects.shadow(), deliver)
        await tell(stage, report(80))
        assert heard == []
        [parsed] = [put_in_shadow(each, True) for each in parse_policies(CLOSED)]
        row = PolicyObject(parsed.kind, parsed.namespace, parsed.name, parsed.document)
        stage.policies.commit(6, {"CiliumNetworkPolicy/shop/closed": row})
        await asyncio.sleep(1)
        assert stage.shadows.count == 1
        await tell(stage, report(80, 443, batch="2"))
        [found] = heard
        assert (found.node, [(each.flow.port, each.allowed, each.would_be) for each in found.verdicts]) == (
            "node1",
            [(80, True, False), (443, True, False)],
        )
        assert stage.counters.shadow_verdicts == 2
        stage.policies.commit(7, {}, ["CiliumNetworkPolicy/shop/closed"])
        await asyncio.sleep(1)
        await tell(stage, report(8080, batch="3"))
        assert (stage.shadows.count, len(heard)) == (0, 1)


@in_fake_time
async def test_a_policy_that_cannot_be_read_is_passed_over() -> None:
    async with recording() as stage:
        row = PolicyObject("CiliumNetworkPolicy", "shop", "other", '{"spec": 7}')
        stage.policies.commit(6, {"CiliumNetworkPolicy/shop/other": row})
        await asyncio.sleep(1)
        assert stage.shadows.count == 0
        await tell(stage, report(80))


@in_fake_time
async def test_a_garbled_request_is_refused_by_field() -> None:
    async with recording() as stage:
        with pytest.raises(Refused, match="invalid"):
            await stage.agent.request(stage.agent.subjects.request("recorder", "record"), Empty(), Empty)
