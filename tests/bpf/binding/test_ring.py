"""The ring buffer: every record once and in order, within a budget, and from an event loop."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import pytest

from cilia.abi.codec import RingLayout
from cilia.datapath.clock import UnixClock, ktime_ns
from cilia.datapath.errors import MapMismatch
from cilia.datapath.objects import LoadedObject, LoadOptions, load
from cilia.datapath.programs import skb_context
from cilia.datapath.ring import RingBuffer

PACKET = bytes(64)
RECORD = Struct("=QQ")
LIMIT = 1000


@pytest.fixture
def ring(loaded: LoadedObject) -> Iterator[RingBuffer]:
    with RingBuffer(loaded.map_fd("test_ring"), record_size=RECORD.size, limit=LIMIT) as ring:
        yield ring


def report(loaded: LoadedObject, mark: int, repeat: int = 1) -> int:
    return loaded.program("report").test_run(PACKET, skb_context(mark=mark), repeat).retval


def test_a_hundred_thousand_records_arrive_once_and_within_the_budget(loaded: LoadedObject, ring: RingBuffer) -> None:
    for mark in range(100, 200):
        assert report(loaded, mark, repeat=1000) == 0
    numbers = []
    backlog = 100_000
    while backlog:
        drained = ring.drain()
        assert 0 < drained.taken <= LIMIT
        assert len(drained.records) == drained.taken * RECORD.size
        backlog -= drained.taken
        assert drained.backlog == backlog
        numbers += [number for number, _ in RECORD.iter_unpack(drained.records)]
    assert numbers == [mark for mark in range(100, 200) for _ in range(1000)]
    assert ring.drain().taken == 0


def test_a_full_ring_keeps_the_oldest_and_has_room_again_after_a_drain(loaded: LoadedObject, ring: RingBuffer) -> None:
    report(loaded, 1, repeat=ring.size_bytes // 24 + 1)
    assert report(loaded, 2) == 1
    assert ring.drain().taken == LIMIT
    assert report(loaded, 2) == 0


def test_what_was_discarded_or_has_another_size_is_counted(loaded: LoadedObject, ring: RingBuffer) -> None:
    for mark in (1, 13, 14, 2):
        report(loaded, mark)
    drained = ring.drain()
    assert (drained.taken, drained.misfits, drained.discarded, drained.backlog) == (2, 1, 1, 0)
    assert [number for number, _ in RECORD.iter_unpack(drained.records)] == [1, 2]


def test_a_ring_is_reopened_by_its_pin(fixture_object: Path, pins: Path) -> None:
    layout = RingLayout("test_ring", 1 << 22)
    with (
        load(fixture_object, LoadOptions(pin_directory=pins)) as loaded,
        RingBuffer.open_pinned(pins, layout, record_size=RECORD.size, limit=LIMIT) as ring,
    ):
        report(loaded, 5)
        assert ring.drain().taken == 1


async def test_an_event_loop_wakes_for_records_until_none_is_left(loaded: LoadedObject, ring: RingBuffer) -> None:
    loop = asyncio.get_running_loop()
    taken: list[int] = []
    done = asyncio.Event()

    def drain() -> None:
        taken.append(ring.drain().taken)
        if sum(taken) == 5000:
            done.set()

    loop.add_reader(ring, drain)
    try:
        await asyncio.to_thread(report, loaded, 3, 5000)
        async with asyncio.timeout(10):
            await done.wait()
    finally:
        loop.remove_reader(ring)
    assert max(taken) <= LIMIT


def test_the_time_of_a_record_is_ktime(loaded: LoadedObject, ring: RingBuffer) -> None:
    before = ktime_ns()
    report(loaded, 1)
    _, time_ns = RECORD.unpack(ring.drain().records)
    assert before <= time_ns <= ktime_ns()
    clock = UnixClock.now()
    assert abs(clock.unix_ns(time_ns) - clock.unix_ns(before)) < 10**9


def test_another_kind_of_map_is_refused(loaded: LoadedObject) -> None:
    with pytest.raises(MapMismatch, match="kind is 1, wanted 27"):
        RingBuffer(loaded.map_fd("test_hash"), record_size=16, limit=1)
