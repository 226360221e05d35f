"""Export of distinct flows: news within a second, counts now and then, each batch counted once."""

import asyncio
from random import Random

from cilia.contracts.flows import RecordFlows
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.datapath.clock import UnixClock
from cilia.errors import Refused, Unavailable
from services.agent.flows.aggregation import DistinctFlows
from services.agent.flows.export import BATCH_FLOWS, REFRESH_SECONDS, FlowExport
from services.agent.flows.naming import flow_of
from tests.fakes.clock import in_fake_time, now
from tests.unit.agent.flows.test_naming import NAMES, event
from tests.unit.agent.scripted_bus import ScriptedBus

AWAY = Unavailable("recorder", "no answer")


class Setting:
    """An export, its flows and its recorder."""

    def __init__(self, limit: int = 2000) -> None:
        self.bus = ScriptedBus(recorder_record=lambda _: Empty())
        self.flows = DistinctFlows(limit, lambda *_: ())
        self.export = FlowExport(self.bus.as_bus(), NodeName("node1"), self.flows, random=Random(7), clock=now)

    def see(self, *ports: int) -> None:
        for port in ports:
            which = event()._replace(port=(40_000, port))
            self.flows.add(which, flow_of(which, NodeName("node1"), UnixClock(0), NAMES))

    def batches(self) -> list[RecordFlows]:
        return [message for _, message in self.bus.asked]


@in_fake_time
async def test_a_new_flow_is_told_within_a_second_or_so() -> None:
    setting = Setting()
    running = asyncio.create_task(setting.export.run())
    await asyncio.sleep(3)
    assert setting.batches() == []
    setting.see(80)
    await asyncio.sleep(1.3)
    (batch,) = setting.batches()
    assert [(flow.port, flow.count) for flow in batch.flows] == [(80, 1)]
    running.cancel()


@in_fake_time
async def test_counts_of_known_flows_wait_for_the_refresh() -> None:
    setting = Setting()
    running = asyncio.create_task(setting.export.run())
    setting.see(80)
    await asyncio.sleep(2)
    setting.see(80, 80)
    await asyncio.sleep(REFRESH_SECONDS / 2)
    assert len(setting.batches()) == 1
    await asyncio.sleep(REFRESH_SECONDS)
    assert [flow.count for batch in setting.batches() for flow in batch.flows] == [1, 2]
    running.cancel()


@in_fake_time
async def test_where_nothing_happens_nothing_is_sent() -> None:
    setting = Setting()
    running = asyncio.create_task(setting.export.run())
    setting.see(80)
    await asyncio.sleep(100)
    assert len(setting.batches()) == 1
    running.cancel()


@in_fake_time
async def test_a_batch_is_sent_again_under_its_name_until_it_is_answered() -> None:
    setting = Setting()
    answers = iter([AWAY, Refused(Problem(ProblemCode.BUSY, "later")), AWAY])
    setting.bus.answers["recorder.record"] = lambda _: next(answers, Empty())
    running = asyncio.create_task(setting.export.run())
    setting.see(80)
    await asyncio.sleep(12)
    batches = setting.batches()
    assert batches == [batches[0]] * 4
    setting.see(81)
    await asyncio.sleep(2)
    assert setting.batches()[-1].batch != batches[0].batch
    assert [flow.port for flow in setting.batches()[-1].flows] == [81]
    running.cancel()


@in_fake_time
async def test_what_is_seen_while_the_recorder_is_away_adds_up_and_follows() -> None:
    setting = Setting()
    setting.bus.answers["recorder.record"] = lambda _: AWAY
    running = asyncio.create_task(setting.export.run())
    setting.see(80)
    await asyncio.sleep(2)
    setting.see(*[81] * 50)
    await asyncio.sleep(60)
    assert {batch.batch for batch in setting.batches()} == {setting.batches()[0].batch}
    setting.bus.answers["recorder.record"] = lambda _: Empty()
    await asyncio.sleep(8)
    assert [(flow.port, flow.count) for flow in setting.batches()[-1].flows] == [(81, 50)]
    running.cancel()


@in_fake_time
async def test_more_flows_than_a_batch_holds_follow_in_the_next() -> None:
    setting = Setting()
    running = asyncio.create_task(setting.export.run())
    setting.see(*range(1, BATCH_FLOWS + 101))
    await asyncio.sleep(2.5)
    assert [len(batch.flows) for batch in setting.batches()] == [BATCH_FLOWS, 100]
    assert len({batch.batch for batch in setting.batches()}) == 2
    running.cancel()


@in_fake_time
async def test_a_refresh_that_is_larger_than_a_batch_goes_on_until_all_is_told() -> None:
    setting = Setting()
    running = asyncio.create_task(setting.export.run())
    ports = range(1, BATCH_FLOWS + 101)
    setting.see(*ports)
    await asyncio.sleep(3)
    setting.see(*ports)
    await asyncio.sleep(REFRESH_SECONDS + 3)
    told = [flow.count for batch in setting.batches() for flow in batch.flows]
    assert sum(told) == 2 * len(ports)
    running.cancel()


@in_fake_time
async def test_flows_that_had_to_make_room_are_told_of() -> None:
    setting = Setting(limit=10)
    running = asyncio.create_task(setting.export.run())
    setting.see(*range(1, 31))
    await asyncio.sleep(2)
    (batch,) = setting.batches()
    assert (len(batch.flows), batch.lost) == (10, 20)
    running.cancel()


@in_fake_time
async def test_batches_of_two_agents_have_different_names() -> None:
    one, other = Setting(), Setting()
    for setting in (one, other):
        setting.see(80)
    first, second = one.export.next_batch(), other.export.next_batch()
    assert first is not None
    assert second is not None
    assert first.batch != second.batch
