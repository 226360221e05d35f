"""The consumer of a ring buffer, over a file in memory that a test writes as the kernel would."""

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi.kinds import MapKind
from cilia.datapath import ring as ring_module
from cilia.datapath.array_memory import PAGE
from cilia.datapath.errors import KernelError, MapMismatch
from cilia.datapath.map_info import MapInfo
from cilia.datapath.ring import HEADER_BYTES, RingBuffer

SIZE = PAGE
BUSY, DISCARDED = 1 << 31, 1 << 30
RECORD_BYTES = 12
FOOTPRINT = 24
"""Bytes that a record takes: its header and its data, padded to 8 bytes."""


class Producer:
    """The programs: they reserve in order and commit in any (kernel/bpf/ringbuf.c)."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * size)
        self.position = 0

    def reserve(self, data: bytes, flags: int = BUSY) -> int:
        """Write a record; return where it stands."""
        at = self.position
        self._write(at, struct.pack("=II", len(data) | flags, 0) + data)
        self.position += (len(data) + HEADER_BYTES + 7) & ~7
        os.pwrite(self.fd, struct.pack("=Q", self.position), PAGE)
        return at

    def commit(self, at: int, length: int, *, discarded: bool = False) -> None:
        """Have the consumer see a record, or pass it over."""
        self._write(at, struct.pack("=I", length | (DISCARDED if discarded else 0)))

    def submit(self, data: bytes) -> None:
        """Reserve and commit at once."""
        self.reserve(data, 0)

    def consumed(self) -> int:
        """Return up to where the consumer has given room back."""
        return int.from_bytes(os.pread(self.fd, 8, 0), "little")

    def _write(self, at: int, data: bytes) -> None:
        # The kernel maps its data twice in a row: what is written in one place shows in both.
        for start in (at % self.size, at % self.size + self.size):
            os.pwrite(self.fd, data[: max(0, 2 * self.size - start)], 2 * PAGE + start)
        over = at % self.size + len(data) - self.size
        if over > 0:
            os.pwrite(self.fd, data[-over:], 2 * PAGE)


def record(number: int) -> bytes:
    return number.to_bytes(RECORD_BYTES, "big")


def numbers(records: memoryview) -> list[int]:
    return [int.from_bytes(records[at : at + RECORD_BYTES], "big") for at in range(0, len(records), RECORD_BYTES)]


def opened(producer: Producer, limit: int = 100) -> RingBuffer:
    return RingBuffer(os.dup(producer.fd), record_size=RECORD_BYTES, limit=limit, name="events")


@pytest.fixture(autouse=True)
def kind_of_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "map_info", lambda _fd: MapInfo(1, MapKind.RINGBUF, 0, 0, SIZE, 0))


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(producer: Producer) -> Iterator[RingBuffer]:
    with opened(producer) as made:
        yield made


def test_records_come_in_the_order_of_their_reservation(producer: Producer, ring: RingBuffer) -> None:
    for number in range(5):
        producer.submit(record(number))
    drained = ring.drain()
    assert (numbers(drained.records), drained.taken, drained.backlog) == ([0, 1, 2, 3, 4], 5, 0)
    assert producer.consumed() == 5 * FOOTPRINT


def test_an_empty_ring_gives_nothing(ring: RingBuffer) -> None:
    assert ring.drain()[1:] == (0, 0, 0, 0)


def test_a_drain_stops_at_a_record_that_is_being_written(producer: Producer, ring: RingBuffer) -> None:
    producer.submit(record(1))
    pending = producer.reserve(record(2))
    producer.submit(record(3))
    drained = ring.drain()
    assert (numbers(drained.records), drained.backlog) == ([1], 2)
    producer.commit(pending, RECORD_BYTES)
    assert numbers(ring.drain().records) == [2, 3]


def test_what_a_program_gave_up_is_counted_and_passed_over(producer: Producer, ring: RingBuffer) -> None:
    producer.commit(producer.reserve(record(1)), RECORD_BYTES, discarded=True)
    producer.submit(record(2))
    drained = ring.drain()
    assert (numbers(drained.records), drained.discarded) == ([2], 1)


@pytest.mark.parametrize("length", [1, RECORD_BYTES - 1, RECORD_BYTES + 1, 40])
def test_records_of_another_size_are_counted_and_passed_over(producer: Producer, ring: RingBuffer, length: int) -> None:
    producer.submit(bytes(length))
    producer.submit(record(2))
    drained = ring.drain()
    assert (numbers(drained.records), drained.misfits, drained.backlog) == ([2], 1, 0)


def test_a_limit_leaves_the_rest_for_the_next_drain(producer: Producer) -> None:
    for number in range(7):
        producer.submit(record(number))
    with opened(producer, limit=3) as ring:
        drains = [ring.drain() for _ in range(2)]
        assert [(one.taken, one.backlog) for one in drains] == [(3, 4), (3, 1)]
        last = ring.drain()
        assert (numbers(last.records), last.backlog) == ([6], 0)


def test_a_reader_that_comes_back_goes_on_where_the_former_stopped(producer: Producer) -> None:
    for number in range(4):
        producer.submit(record(number))
    with opened(producer, limit=2) as former:
        former.drain()
    with opened(producer) as later:
        assert numbers(later.drain().records) == [2, 3]


def test_a_map_of_another_kind_is_refused(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "map_info", lambda _fd: MapInfo(1, MapKind.HASH, 4, 4, SIZE, 0))
    with pytest.raises(MapMismatch, match="map events: kind is"):
        opened(producer)


def test_a_ring_that_cannot_be_mapped_is_named() -> None:
    read, write = os.pipe()
    os.close(write)
    with pytest.raises(KernelError, match="map events: EACCES"):
        RingBuffer(read, record_size=RECORD_BYTES, limit=1, name="events")


@given(st.lists(st.lists(st.integers(0, 2**32), max_size=40), max_size=20), st.integers(1, 50))
def test_every_record_arrives_once_and_in_order_however_often_the_ring_wraps(
    rounds: list[list[int]], limit: int
) -> None:
    producer = Producer()
    try:
        with opened(producer, limit) as ring:
            arrived = []
            for some in rounds:
                for number in some:
                    producer.submit(record(number))
                while ring_records := numbers(ring.drain().records):
                    arrived += ring_records
            assert arrived == [number for some in rounds for number in some]
    finally:
        os.close(producer.fd)
