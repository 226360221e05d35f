"""Drift loop: looks in turn, rests after long ones, goes on after a refusal, reports."""

import asyncio
import errno
from typing import cast

import msgspec
import pytest

from cilia.bus import Bus
from cilia.contracts.drift import ForeignChange
from cilia.contracts.ids import NodeName
from cilia.contracts.subjects import Subjects
from cilia.datapath.errors import MapError
from cilia.errors import Unavailable
from services.agent.drift.loop import DriftLoop, differences, read_undisturbed
from services.agent.drift.reporter import MOST_REPORTED, QUEUE_SIZE, Drift, DriftReporter
from tests.unit.agent.loops import running, until

NODE = NodeName("node1")


class ScriptedBus:
    """Bus that is away for as many messages as told."""

    def __init__(self) -> None:
        self.subjects = Subjects("test")
        self.published: list[tuple[str, ForeignChange]] = []
        self.refusals = 0

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("bus", "no connection")
        self.published.append((subject, msgspec.json.decode(payload, type=ForeignChange)))


def reporter_on(bus: ScriptedBus) -> DriftReporter:
    return DriftReporter(cast(Bus, bus), NODE, unix_ns=lambda: 1_000)


async def test_a_finding_is_counted_kept_for_the_status_and_published(caplog: pytest.LogCaptureFixture) -> None:
    bus = ScriptedBus()
    reporter = reporter_on(bus)

    async def look() -> list[Drift]:
        return [Drift("ipcache", ("a was 1, not 2", "b was missing, not 3")), Drift("policy of slot 3", ())]

    await DriftLoop({"ipcache": look}, reporter, seconds=5.0).look()
    assert (reporter.counters.looks, reporter.counters.foreign) == (1, 2)
    assert reporter.last == "ipcache: a was 1, not 2"
    assert "somebody else changed the ipcache; it is repaired: a was 1, not 2; b was missing, not 3" in caplog.text
    async with running(reporter.run):
        await until(lambda: bool(bus.published))
    ((subject, change),) = bus.published
    assert subject == "cilia.v1.test.drift.node1"
    assert change == ForeignChange(NODE, 1_000, "ipcache", ("a was 1, not 2", "b was missing, not 3"), 2)


async def test_of_many_differences_all_are_counted_and_some_are_told() -> None:
    bus = ScriptedBus()
    reporter = reporter_on(bus)
    reporter.report(Drift("ipcache", tuple(map(str, range(100)))))
    async with running(reporter.run):
        await until(lambda: bool(bus.published))
    assert (bus.published[0][1].count, len(bus.published[0][1].found)) == (100, MOST_REPORTED)


async def test_a_bus_that_is_away_loses_reports_and_the_next_ones_come() -> None:
    bus = ScriptedBus()
    bus.refusals = 1
    reporter = reporter_on(bus)
    reporter.report(Drift("ipcache", ("first",)))
    reporter.report(Drift("ipcache", ("second",)))
    async with running(reporter.run):
        await until(lambda: bool(bus.published))
    assert [change.found for _, change in bus.published] == [("second",)]


def test_reports_that_nobody_takes_are_bounded_and_still_counted() -> None:
    reporter = reporter_on(ScriptedBus())
    for number in range(QUEUE_SIZE + 10):
        reporter.report(Drift("ipcache", (str(number),)))
    assert reporter.counters.foreign == QUEUE_SIZE + 10
    assert reporter.last == f"ipcache: {QUEUE_SIZE + 9}"


async def test_a_look_that_the_kernel_refuses_is_said_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    reporter, seen = reporter_on(ScriptedBus()), list[str]()

    async def refused() -> list[Drift]:
        raise MapError("cilia_ipcache", "read", errno.EPERM)

    async def no_device() -> list[Drift]:
        raise OSError(errno.ENODEV, "No such device")

    async def fine() -> list[Drift]:
        seen.append("fine")
        return []

    await DriftLoop({"ipcache": refused, "programs": no_device, "endpoints": fine}, reporter, seconds=5.0).look()
    assert seen == ["fine"]
    assert "can't compare the ipcache with what was written" in caplog.text
    assert "can't compare the programs with what was written" in caplog.text


@pytest.mark.parametrize(("length", "rest"), [(0.0, 5.0), (0.5, 5.0), (2.0, 20.0)])
async def test_after_a_long_look_the_loop_rests_longer(length: float, rest: float) -> None:
    pauses, now = list[float](), [0.0]
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            done.set()
            await asyncio.Event().wait()

    async def look() -> list[Drift]:
        now[0] += length
        return []

    loop = DriftLoop({"x": look}, reporter_on(ScriptedBus()), seconds=5.0, clock=lambda: now[0], sleep=sleep)
    async with running(loop.run), asyncio.timeout(30):
        await done.wait()
    assert pauses == [5.0, rest]


async def test_a_read_is_repeated_until_nothing_was_written_meanwhile() -> None:
    writes, reads = [0], [0]

    async def read() -> int:
        reads[0] += 1
        writes[0] += reads[0] < 3
        return reads[0]

    assert await read_undisturbed(read, lambda: writes[0]) == 3


async def test_a_read_that_is_always_disturbed_gives_nothing() -> None:
    writes = [0]

    async def read() -> str:
        writes[0] += 1
        return "never mind"

    assert await read_undisturbed(read, lambda: writes[0]) is None


def test_differences_name_both_sides() -> None:
    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 6}) == {
        "b": (2, 5),
        "c": (3, None),
        "d": (None, 6),
    }
