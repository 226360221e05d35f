"""One shard as a subscriber knows it, without I/O: deltas, beacons and snapshots in, changes out.

The state only ever moves forward: to a greater epoch, or to a greater sequence within one. What
does not fit is kept (deltas that are ahead) or dropped (all that is behind), and ``behind`` says
that a snapshot is needed.

Race that the buffer of deltas is for::

    owner       41 ---- 42 ---- 43 ---- 44
    snapshot        asked        `- at 43
    deltas                 42      43      44     come before the answer: kept, then 44 fits on 43
"""

from typing import Final, Generic, TypeVar

from msgspec import Struct

from cilia.contracts.distribution import Beacon, Delta

K = TypeVar("K")
V = TypeVar("V")

KEPT_DELTAS: Final = 256
"""Deltas that are kept ahead of the rows, at most."""


class Change(Struct, Generic[K, V], frozen=True):
    """Difference of a shard's rows to those of the changes given before; empty: only newer.

    Attributes:
        sequence: The shard's rows are now those at this sequence.
        upserts: Rows that are new or different.
        removes: Keys whose rows are gone.
        full: A whole snapshot or the end of interest is behind it, not single changes.
        traceparent: W3C trace context of the newest cause, or empty.
    """

    shard: str
    sequence: int
    upserts: dict[K, V]
    removes: frozenset[K]
    full: bool = False
    traceparent: str = ""

    def then(self, later: "Change[K, V]") -> "Change[K, V]":
        """Return both as one."""
        upserts = {key: row for key, row in self.upserts.items() if key not in later.removes} | later.upserts
        removes = (self.removes - later.upserts.keys()) | later.removes
        traceparent = later.traceparent or self.traceparent
        return Change(self.shard, later.sequence, upserts, removes, self.full or later.full, traceparent)


class Snapshot(Struct, Generic[K, V], frozen=True):
    """Rows of a shard, or (``since`` above 0) its changes in (``since``, ``sequence``]."""

    epoch: int
    sequence: int
    since: int
    upserts: dict[K, V]
    removes: tuple[K, ...] = ()


class SubscribedShard(Generic[K, V]):
    """Rows of one shard at ``(epoch, sequence)``; ``complete`` once a snapshot made them whole."""

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.epoch = 0
        self.sequence = 0
        self.complete = False
        self.rows: dict[K, V] = {}
        self.suspect = False
        """Messages may have been lost: resync, unless a beacon says first that all is well."""
        self._heard = (0, 0)
        self._kept: dict[int, Delta[K, V]] = {}
        self._parts: list[Delta[K, V]] = []
        self._traceparents: dict[int, str] = {}

    @property
    def position(self) -> tuple[int, int]:
        """(epoch, sequence) of the rows."""
        return self.epoch, self.sequence

    @property
    def behind(self) -> bool:
        """Tell whether a snapshot is needed."""
        return not self.complete or self._heard > self.position

    @property
    def wanted(self) -> int:
        """Least sequence of a snapshot that is of use; 0: any."""
        return self._heard[1]

    def start(self, epoch: int, sequence: int) -> None:
        """Begin as a shard that is known to be empty at this position."""
        self.epoch, self.sequence, self.complete = epoch, sequence, True

    def feed_delta(self, delta: Delta[K, V], traceparent: str = "") -> list[Change[K, V]]:
        """Take a delta; return what it changed, if anything could be applied."""
        if (delta.epoch, delta.sequence) <= self.position and self.complete:
            return []
        if self._is_next(delta):
            self._heard = max(self._heard, (delta.epoch, delta.sequence))
            upserts = dict(delta.upserts)
            return [self._apply(delta.sequence, upserts, delta.removes, traceparent=traceparent)]
        whole = self._assemble(delta)
        self._hear(delta.epoch, delta.sequence)
        if whole is None or whole.epoch < self._heard[0]:
            return []
        self._keep(whole, traceparent)
        return self._apply_kept()

    def feed_beacon(self, beacon: Beacon) -> None:
        """Take a beacon: advance if it says that nothing has changed, else be behind."""
        if beacon.epoch < self._heard[0]:
            return
        self._hear(beacon.epoch, 0)
        if not self.complete or self.epoch != beacon.epoch:
            return
        head = beacon.heads.get(self.shard)
        if head is not None and head > self.sequence:
            self._hear(beacon.epoch, head)
        elif head is None and self.sequence < beacon.since:
            self._hear(beacon.epoch, beacon.since)
        else:
            self.sequence = max(self.sequence, beacon.sequence)
            self.suspect = self.suspect and self._heard > self.position

    def feed_snapshot(self, snapshot: Snapshot[K, V]) -> list[Change[K, V]]:
        """Take a snapshot; one older than the rows, or than an epoch heard of, changes nothing."""
        if snapshot.epoch < self._heard[0]:
            return []
        if self.complete and (snapshot.epoch, snapshot.sequence) <= self.position:
            self.suspect = self.suspect and (snapshot.epoch, snapshot.sequence) < self.position
            return []
        if snapshot.since and not (self.complete and self.epoch == snapshot.epoch and snapshot.since <= self.sequence):
            return []
        self._hear(snapshot.epoch, 0)
        self.epoch, self.complete, self.suspect = snapshot.epoch, True, False
        removes = snapshot.removes if snapshot.since else tuple(key for key in self.rows if key not in snapshot.upserts)
        change = self._apply(snapshot.sequence, snapshot.upserts, removes, full=not snapshot.since)
        return [change, *self._apply_kept()]

    def forget(self) -> Change[K, V]:
        """Return the change that removes every row: interest in the shard has ended."""
        return Change(self.shard, self.sequence, {}, frozenset(self.rows), full=True)

    def _hear(self, epoch: int, sequence: int) -> None:
        if epoch > self._heard[0]:
            self._kept.clear()
            self._parts.clear()
        self._heard = max(self._heard, (epoch, sequence))

    def _is_next(self, delta: Delta[K, V]) -> bool:
        """Tell whether a delta fits on the rows, as nearly all do, and none is kept beside it."""
        is_plain = delta.parts == 1 and not self._kept and not self._parts
        is_of_now = delta.epoch == self.epoch == self._heard[0]
        return is_plain and is_of_now and self.complete and delta.previous <= self.sequence

    def _assemble(self, delta: Delta[K, V]) -> Delta[K, V] | None:
        if delta.parts == 1:
            return delta
        if delta.part == 0:
            self._parts = []
        elif len(self._parts) != delta.part or self._parts[0].batch != delta.batch:
            return None  # a part is missing: the sequence was heard, so a snapshot follows
        self._parts.append(delta)
        if len(self._parts) < delta.parts:
            return None
        parts, self._parts = self._parts, []
        upserts = tuple(pair for part in parts for pair in part.upserts)
        removes = tuple(key for part in parts for key in part.removes)
        return Delta(delta.epoch, delta.previous, delta.sequence, upserts, removes)

    def _keep(self, delta: Delta[K, V], traceparent: str) -> None:
        other = self._kept.get(delta.sequence)
        if other is None or delta.previous < other.previous:
            self._kept[delta.sequence] = delta
            if traceparent:
                self._traceparents[delta.sequence] = traceparent
        if len(self._kept) > KEPT_DELTAS:
            del self._kept[min(self._kept)]

    def _apply_kept(self) -> list[Change[K, V]]:
        changes = []
        for sequence in sorted(self._kept):
            delta = self._kept[sequence]
            if not self.complete or delta.epoch != self.epoch:
                break
            if sequence > self.sequence:
                if delta.previous > self.sequence:
                    break
                traceparent = self._traceparents.get(sequence, "")
                changes.append(self._apply(sequence, dict(delta.upserts), delta.removes, traceparent=traceparent))
            del self._kept[sequence]
            self._traceparents.pop(sequence, None)
        return changes

    def _apply(
        self, sequence: int, upserts: dict[K, V], removes: tuple[K, ...], *, full: bool = False, traceparent: str = ""
    ) -> Change[K, V]:
        changed = {key: row for key, row in upserts.items() if self.rows.get(key) != row}
        gone = frozenset(key for key in removes if key in self.rows)
        for key in gone:
            del self.rows[key]
        self.rows.update(changed)
        self.sequence = sequence
        return Change(self.shard, sequence, changed, gone, full, traceparent)
