"""All shards of a table that a subscriber is interested in, without I/O.

Whoever wants every shard does not know their names beforehand. A shard without rows, the *rest*,
stands for those that were never heard of: they are empty as of its position, and begin there when
they are first named.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from cilia.contracts.distribution import Beacon, Delta, SnapshotRequest
from cilia.contracts.subjects import EVERY_SHARD
from cilia.contracts.tables import Table
from cilia.table.shard import Change, Snapshot, SubscribedShard

K = TypeVar("K")
V = TypeVar("V")

REQUEST_EVERY: Final = 8
"""Stale shards beyond which one request for all of them is cheaper."""


class ResyncReason(Enum):
    """Reason to request a snapshot; the later, the less it hurries."""

    NEW = auto()
    """Nothing is known of the shard."""
    GAP = auto()
    """A delta is missing for certain."""
    SUSPECT = auto()
    """Messages may have been lost."""


@dataclass(frozen=True, slots=True)
class _RowsByShard(Generic[K, V]):
    """Rows of a snapshot of all shards, by shard."""

    upserts: dict[str, dict[K, V]]
    removes: dict[str, list[K]]


class SubscribedShards(Generic[K, V]):
    """Shards by name. ``every``: of all shards there are; otherwise of those that were added."""

    def __init__(self, table: Table[K, V], *, every: bool) -> None:
        self.table = table
        self.every = every
        self.shards: dict[str, SubscribedShard[K, V]] = {}
        self._rest: SubscribedShard[K, V] = SubscribedShard(EVERY_SHARD)

    def add(self, shard: str) -> None:
        """Begin to follow a shard."""
        self.shards.setdefault(shard, SubscribedShard(shard))

    def drop(self, shard: str) -> Change[K, V] | None:
        """Cease to follow a shard; return the change that removes its rows."""
        known = self.shards.pop(shard, None)
        return known.forget() if known is not None else None

    @property
    def complete(self) -> bool:
        """Tell whether every shard of interest is whole. It may still be behind."""
        return (not self.every or self._rest.complete) and all(each.complete for each in self.shards.values())

    def sequence(self, shard: str) -> int:
        """Return the sequence up to which a shard is known; 0: not at all."""
        known = self.shards.get(shard, self._rest)
        return known.sequence if known.complete else 0

    def feed_delta(self, shard: str, delta: Delta[K, V], traceparent: str = "") -> list[Change[K, V]]:
        """Take a shard's delta."""
        known = self._named(shard)
        return known.feed_delta(delta, traceparent) if known is not None else []

    def feed_beacon(self, beacon: Beacon) -> None:
        """Take the table's beacon."""
        if self.every:
            for shard in beacon.heads:
                self._named(shard)
            self._rest.feed_beacon(beacon)
        for known in self.shards.values():
            known.feed_beacon(beacon)

    def feed_snapshot(self, shard: str, snapshot: Snapshot[K, V]) -> list[Change[K, V]]:
        """Take a snapshot of ``shard``, or of EVERY_SHARD."""
        if shard != EVERY_SHARD:
            known = self.shards.get(shard)
            return known.feed_snapshot(snapshot) if known is not None else []
        parts = self._by_shard(snapshot)
        changes: list[Change[K, V]] = []
        for name in dict.fromkeys((*self.shards, *parts.upserts)):
            known = self._named(name)
            assert known is not None
            upserts, removes = parts.upserts.get(name, {}), tuple(parts.removes.get(name, ()))
            part = Snapshot(snapshot.epoch, snapshot.sequence, snapshot.since, upserts, removes)
            changes += known.feed_snapshot(part)
        self._rest.feed_snapshot(Snapshot(snapshot.epoch, snapshot.sequence, snapshot.since, {}))
        return changes

    def suspect_loss(self) -> None:
        """Note that messages may have been missed, such as while the connection was away."""
        for known in self._all():
            known.suspect = True

    def stale(self) -> dict[str, ResyncReason]:
        """Return the snapshots to request, and why: of shards, or of EVERY_SHARD."""
        stale = {known.shard: _reason(known) for known in self._all() if known.behind or known.suspect}
        if self.every and (EVERY_SHARD in stale or len(stale) > REQUEST_EVERY):
            return {EVERY_SHARD: min(stale.values(), key=lambda reason: reason.value)}
        return stale

    def request(self, shard: str) -> SnapshotRequest:
        """Return the request that brings a shard, or EVERY_SHARD, forward."""
        known = list(self._all()) if shard == EVERY_SHARD else [self.shards[shard]]
        at_least = max(each.wanted for each in known)
        epochs = {each.epoch for each in known}
        if len(epochs) > 1 or not all(each.complete for each in known):
            return SnapshotRequest(at_least=at_least)
        return SnapshotRequest(epochs.pop(), min(each.sequence for each in known), at_least)

    def _all(self) -> Iterable[SubscribedShard[K, V]]:
        return (*self.shards.values(), self._rest) if self.every else self.shards.values()

    def _named(self, shard: str) -> SubscribedShard[K, V] | None:
        known = self.shards.get(shard)
        if known is None and self.every:
            known = self.shards[shard] = SubscribedShard(shard)
            if self._rest.complete:
                known.start(self._rest.epoch, self._rest.sequence)
        return known

    def _by_shard(self, snapshot: Snapshot[K, V]) -> _RowsByShard[K, V]:
        parts: _RowsByShard[K, V] = _RowsByShard({}, {})
        for key, row in snapshot.upserts.items():
            parts.upserts.setdefault(self.table.shard(key), {})[key] = row
        for key in snapshot.removes:
            parts.removes.setdefault(self.table.shard(key), []).append(key)
        return parts


def _reason(known: SubscribedShard[K, V]) -> ResyncReason:
    if not known.complete:
        return ResyncReason.NEW
    return ResyncReason.GAP if known.behind else ResyncReason.SUSPECT
