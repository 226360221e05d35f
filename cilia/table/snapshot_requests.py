"""Snapshot requests in flight, without I/O: due ones in, chunks in, snapshots out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from cilia.contracts.distribution import SnapshotChunk
from cilia.table.counters import SubscriberCounters
from cilia.table.resync import ResyncSchedule
from cilia.table.shard import Snapshot
from cilia.table.shards import ResyncReason

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _InFlight(Generic[K, V]):
    """A request and the chunks that have come of its snapshot."""

    shard: str
    chunks: int = 0
    upserts: dict[K, V] = field(default_factory=dict)
    removes: list[K] = field(default_factory=list)


class SnapshotRequests(Generic[K, V]):
    """Requests by name: the last token of the subject that their answers come on."""

    def __init__(self, random: Random, counters: SubscriberCounters) -> None:
        self._schedule = ResyncSchedule(random)
        self._counters = counters
        self._in_flight: dict[str, _InFlight[K, V]] = {}
        self._last = 0

    def begin(self, stale: Mapping[str, ResyncReason], now: float) -> list[tuple[str, str]]:
        """Begin the requests that are due; return the name and shard of each.

        A request of the same shard that is still in flight is forgotten.
        """
        begun = []
        for shard in self._schedule.choose(stale, now):
            for old in [old for old, request in self._in_flight.items() if request.shard == shard]:
                del self._in_flight[old]
            self._last += 1
            self._in_flight[str(self._last)] = _InFlight(shard)
            begun.append((str(self._last), shard))
        return begun

    def next_time(self) -> float | None:
        """Return when ``begin`` may next have something to do."""
        return self._schedule.next_time()

    def take(self, name: str, chunk: SnapshotChunk[K, V], now: float) -> tuple[str, Snapshot[K, V]] | None:
        """Take a chunk; return the shard and its snapshot if this was the last.

        A chunk that is not the next one fails the request; one of no request is ignored.
        """
        request = self._in_flight.get(name)
        if request is None:
            return None
        if chunk.part != request.chunks:
            self.fail(name, now)
            return None
        request.chunks += 1
        request.upserts.update(chunk.upserts)
        request.removes.extend(chunk.removes)
        self._counters.rows += len(chunk.upserts)
        self._schedule.progress(request.shard, now)
        if not chunk.last:
            return None
        del self._in_flight[name]
        return request.shard, Snapshot(
            chunk.epoch, chunk.sequence, chunk.since, request.upserts, tuple(request.removes)
        )

    def note_useless(self, shard: str, now: float) -> None:
        """Note that a snapshot left its shard stale: request it again, later."""
        self._counters.useless_answers += 1
        self._schedule.fail(shard, now)

    def fail(self, name: str, now: float) -> None:
        """Give a request up, as nobody answers it; one that is not in flight is ignored."""
        request = self._in_flight.pop(name, None)
        if request is not None:
            self.note_useless(request.shard, now)

    def fail_all(self, now: float) -> None:
        """Give all requests up: the connection that their answers come by broke."""
        for name in list(self._in_flight):
            self.fail(name, now)
