"""All shards of a table that a subscriber is interested in, without I/O.

Whoever wants every shard does not know their names beforehand. A mirror without rows, the *rest*,
stands for those that were never heard of: they are empty as of its position, and begin there when
they are first named.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from cilia.contracts.subjects import EVERY_SHARD
from cilia.contracts.tables import Beacon, Delta, SnapshotRequest, Table
from cilia.table.shard import Answer, Change, SubscribedShard

K = TypeVar("K")
V = TypeVar("V")

ASK_FOR_EVERY = 8
"""From so many shards on it is cheaper to ask for all at once."""


class Need(Enum):
    """Why something has to be asked for; the later, the less it hurries."""

    NEW = auto()
    GAP = auto()
    UNSURE = auto()


@dataclass(frozen=True, slots=True)
class _Whole(Generic[K, V]):
    """An answer's rows by shard."""

    upserts: dict[str, dict[K, V]]
    removes: dict[str, list[K]]


class SubscribedShards(Generic[K, V]):
    """Mirrors by shard. ``every``: of all shards there are; otherwise of those that were added."""

    def __init__(self, table: Table[K, V], *, every: bool) -> None:
        self.table = table
        self.every = every
        self.shards: dict[str, SubscribedShard[K, V]] = {}
        self._rest: SubscribedShard[K, V] = SubscribedShard(EVERY_SHARD)

    def add(self, shard: str) -> None:
        """Begin to mirror a shard."""
        self.shards.setdefault(shard, SubscribedShard(shard))

    def drop(self, shard: str) -> Change[K, V] | None:
        """Cease to mirror a shard; return the change that removes its rows."""
        mirror = self.shards.pop(shard, None)
        return mirror.forget() if mirror is not None else None

    @property
    def complete(self) -> bool:
        """Tell whether every shard of interest is whole. It may still be behind."""
        return (not self.every or self._rest.complete) and all(each.complete for each in self.shards.values())

    def sequence(self, shard: str) -> int:
        """Return the sequence up to which a shard is known; 0: not at all."""
        mirror = self.shards.get(shard, self._rest)
        return mirror.sequence if mirror.complete else 0

    def feed_delta(self, shard: str, delta: Delta[K, V], traceparent: str = "") -> list[Change[K, V]]:
        """Take a shard's delta."""
        mirror = self._named(shard)
        return mirror.feed_delta(delta, traceparent) if mirror is not None else []

    def feed_beacon(self, beacon: Beacon) -> None:
        """Take the table's beacon."""
        if self.every:
            for shard in beacon.heads:
                self._named(shard)
            self._rest.feed_beacon(beacon)
        for mirror in self.shards.values():
            mirror.feed_beacon(beacon)

    def feed_answer(self, shard: str, answer: Answer[K, V]) -> list[Change[K, V]]:
        """Take the answer to a request for ``shard``, or for EVERY_SHARD."""
        if shard != EVERY_SHARD:
            mirror = self.shards.get(shard)
            return mirror.feed_answer(answer) if mirror is not None else []
        parts = self._by_shard(answer)
        changes: list[Change[K, V]] = []
        for name in dict.fromkeys((*self.shards, *parts.upserts)):
            mirror = self._named(name)
            assert mirror is not None
            upserts, removes = parts.upserts.get(name, {}), tuple(parts.removes.get(name, ()))
            changes += mirror.feed_answer(Answer(answer.epoch, answer.sequence, answer.since, upserts, removes))
        self._rest.feed_answer(Answer(answer.epoch, answer.sequence, answer.since, {}))
        return changes

    def doubt(self) -> None:
        """Note that messages may have been missed, such as while the connection was away."""
        for mirror in self._all():
            mirror.unsure = True

    def needs(self) -> dict[str, Need]:
        """Return what has to be asked for: shards, or EVERY_SHARD."""
        needs = {mirror.shard: _need(mirror) for mirror in self._all() if mirror.behind or mirror.unsure}
        if self.every and (EVERY_SHARD in needs or len(needs) > ASK_FOR_EVERY):
            return {EVERY_SHARD: min(needs.values(), key=lambda need: need.value)}
        return needs

    def request(self, shard: str) -> SnapshotRequest:
        """Return the request that brings a shard, or EVERY_SHARD, forward."""
        mirrors = list(self._all()) if shard == EVERY_SHARD else [self.shards[shard]]
        at_least = max(mirror.wanted for mirror in mirrors)
        epochs = {mirror.epoch for mirror in mirrors}
        if len(epochs) > 1 or not all(mirror.complete for mirror in mirrors):
            return SnapshotRequest(at_least=at_least)
        return SnapshotRequest(epochs.pop(), min(mirror.sequence for mirror in mirrors), at_least)

    def _all(self) -> Iterable[SubscribedShard[K, V]]:
        return (*self.shards.values(), self._rest) if self.every else self.shards.values()

    def _named(self, shard: str) -> SubscribedShard[K, V] | None:
        mirror = self.shards.get(shard)
        if mirror is None and self.every:
            mirror = self.shards[shard] = SubscribedShard(shard)
            if self._rest.complete:
                mirror.start(self._rest.epoch, self._rest.sequence)
        return mirror

    def _by_shard(self, answer: Answer[K, V]) -> _Whole[K, V]:
        parts: _Whole[K, V] = _Whole({}, {})
        for key, row in answer.upserts.items():
            parts.upserts.setdefault(self.table.shard(key), {})[key] = row
        for key in answer.removes:
            parts.removes.setdefault(self.table.shard(key), []).append(key)
        return parts


def _need(mirror: SubscribedShard[K, V]) -> Need:
    if not mirror.complete:
        return Need.NEW
    return Need.GAP if mirror.behind else Need.UNSURE
