"""Reading of events: nothing is lost without being counted, nothing is decoded for nobody."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator

import msgspec
import pytest

from cilia.abi.structs import EVENT, Event
from cilia.contracts.flow_events import Flow, FlowBatch
from cilia.contracts.ids import NodeName
from cilia.datapath.ring import Drained
from services.agent.flows.reader import (
    DRAIN,
    IDLE_SECONDS,
    PUBLISH_SECONDS,
    QUEUE_EVENTS,
    SHARE,
    EventReader,
    Unreported,
)
from tests.fakes.clock import in_fake_time
from tests.unit.agent.flows.test_naming import NAMES, event
from tests.unit.agent.scripted_bus import ScriptedBus


class FakeRing:
    """A ring buffer in memory; its descriptor becomes readable on ``wake``."""

    record_size = EVENT.size
    size_bytes = 16 * DRAIN * EVENT.size

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.events: deque[Event] = deque()

    def fileno(self) -> int:
        return self._read

    def wake(self) -> None:
        os.write(self._write, b"x")

    def drain(self) -> Drained:
        taken = [self.events.popleft() for _ in range(min(DRAIN, len(self.events)))]
        return Drained(memoryview(b"".join(each.pack() for each in taken)), len(taken), 0, 0, len(self.events))

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Setting:
    """A reader over fakes."""

    def __init__(self, ring: FakeRing) -> None:
        self.ring = ring
        self.bus = ScriptedBus()
        self.lost_in_kernel = self.limited = 0
        self.now = 0.0
        self.aggregated: list[tuple[Event, Flow]] = []

    def reader(self, *, publish: bool = True, aggregate: Callable[[Event, Flow], None] | None = None) -> EventReader:
        return EventReader(
            self.ring,
            self.bus.as_bus(),
            NodeName("node1"),
            NAMES,
            Unreported(lambda: self.lost_in_kernel, lambda: self.limited),
            publish=publish,
            aggregate=aggregate,
            clock=lambda: self.now,
        )

    def batches(self) -> list[FlowBatch]:
        assert {subject for subject, _ in self.bus.published} <= {"cilia.v1.test.flow.node1"}
        return [msgspec.json.decode(payload, type=FlowBatch) for _, payload in self.bus.published]


@pytest.fixture
def setting() -> Iterator[Setting]:
    ring = FakeRing()
    yield Setting(ring)
    ring.close()


def events(*ports: int) -> list[Event]:
    return [event()._replace(port=(port, 80)) for port in ports]


@in_fake_time
async def test_events_are_published_in_order_as_flows_with_names(setting: Setting) -> None:
    reader = setting.reader()
    setting.ring.events.extend(events(1, 2, 3))
    assert reader.drain() == 3
    await reader.hand_on()
    (batch,) = setting.batches()
    assert [flow.source_port for flow in batch.flows] == [1, 2, 3]
    assert batch.flows[0].source_endpoint == "default/pod7"
    assert (reader.counters.events, reader.counters.published, reader.counters.dropped) == (3, 3, 0)


@in_fake_time
async def test_what_is_drained_at_once_is_published_at_once(setting: Setting) -> None:
    reader = setting.reader()
    setting.ring.events.extend(events(*range(DRAIN + 5)))
    assert [reader.drain(), reader.drain(), reader.drain()] == [DRAIN, 5, 0]
    await reader.hand_on()
    assert [len(batch.flows) for batch in setting.batches()] == [DRAIN, 5]


@in_fake_time
async def test_what_finds_no_room_is_counted_and_told_with_the_next_batch(setting: Setting) -> None:
    reader = setting.reader()
    setting.ring.events.extend(events(*range(QUEUE_EVENTS + 2 * DRAIN)))
    while reader.drain():
        pass
    assert reader.counters.dropped == 2 * DRAIN
    setting.lost_in_kernel = 7
    await reader.hand_on()
    batches = setting.batches()
    assert sum(len(batch.flows) for batch in batches) == QUEUE_EVENTS
    assert [batch.lost for batch in batches[:2]] == [2 * DRAIN + 7, 0]


@in_fake_time
async def test_what_was_lost_before_the_agent_began_is_not_told(setting: Setting) -> None:
    setting.lost_in_kernel = 1000
    reader = setting.reader()
    running = asyncio.create_task(reader.run())
    await asyncio.sleep(0)
    setting.lost_in_kernel, setting.limited = 1003, 5
    setting.ring.events.extend(events(1))
    await asyncio.sleep(2 * PUBLISH_SECONDS)
    assert [(batch.lost, batch.limited) for batch in setting.batches()] == [(3, 5)]
    running.cancel()


@in_fake_time
async def test_while_more_events_wait_the_loop_is_others_for_nine_tenths_of_the_time(setting: Setting) -> None:
    def name_slowly(*_: object) -> None:
        setting.now += 1 / DRAIN

    reader = setting.reader(aggregate=name_slowly)
    setting.ring.events.extend(events(*range(4 * DRAIN)))
    while reader.drain():
        pass
    began = asyncio.get_running_loop().time()
    await reader.hand_on()
    rested = asyncio.get_running_loop().time() - began
    assert rested == pytest.approx(3 * (1 / SHARE - 1))


@in_fake_time
async def test_the_status_tells_what_was_not_shown_and_why(setting: Setting) -> None:
    reader = setting.reader()
    assert (reader.status().failures, reader.status().last_error) == (0, "")
    setting.lost_in_kernel, setting.limited = 2, 40
    status = reader.status()
    assert status.failures == 42
    assert status.last_error == "40 above the limit of their pod or node, 2 no room in the ring"


@in_fake_time
async def test_while_the_bus_is_away_flows_are_aggregated_all_the_same(setting: Setting) -> None:
    reader = setting.reader(aggregate=lambda *pair: setting.aggregated.append(pair))
    setting.bus.connected = False
    setting.ring.events.extend(events(1, 2))
    reader.drain()
    await reader.hand_on()
    assert setting.batches() == []
    assert [flow.source_port for _, flow in setting.aggregated] == [1, 2]


@in_fake_time
async def test_a_batch_that_the_bus_does_not_take_is_not_counted_as_published(setting: Setting) -> None:
    reader = setting.reader()
    setting.bus.refuses_publishing = True
    setting.ring.events.extend(events(1))
    reader.drain()
    await reader.hand_on()
    assert reader.counters.published == 0


@in_fake_time
async def test_for_nobody_events_are_only_counted(setting: Setting) -> None:
    reader = setting.reader(publish=False)
    running = asyncio.create_task(reader.run())
    setting.ring.events.extend(events(1, 2))
    await asyncio.sleep(2 * IDLE_SECONDS)
    assert reader.counters.events == 2
    assert setting.batches() == []
    running.cancel()


@in_fake_time
async def test_the_loop_looks_by_itself_and_comes_at_once_when_much_has_piled_up(setting: Setting) -> None:
    reader = setting.reader()
    running = asyncio.create_task(reader.run())
    await asyncio.sleep(0)
    setting.ring.events.extend(events(1))
    await asyncio.sleep(1.5 * PUBLISH_SECONDS)
    assert len(setting.batches()) == 1
    setting.ring.events.extend(events(2))
    setting.ring.wake()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not setting.ring.events
    running.cancel()


@in_fake_time
async def test_all_that_is_in_the_ring_is_taken_in_one_round(setting: Setting) -> None:
    reader = setting.reader()
    setting.ring.events.extend(events(*range(5 * DRAIN)))
    running = asyncio.create_task(reader.run())
    await asyncio.sleep(1.5 * PUBLISH_SECONDS)
    assert reader.counters.published == 5 * DRAIN
    running.cancel()
