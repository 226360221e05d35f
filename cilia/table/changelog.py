"""Changelog of a table, the owner's side, without I/O: rows by shard, recent and pending changes.

One loop of the service writes it (``reset``, ``commit``); the publisher's loops read it. Every
replica keeps one, as every replica follows the kvstore, so any can answer, and the next leader
continues the line: its first delta of a shard reaches back over its log, whatever the last leader
still managed to send.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, repeat, takewhile
from operator import itemgetter
from typing import Final, Generic, TypeVar

from cilia.contracts.distribution import Beacon, Delta
from cilia.contracts.tables import Table

K = TypeVar("K")
V = TypeVar("V")

LOG_LIMIT: Final = 65_536
"""Changes of rows that the log holds."""
Rows = Sequence[tuple[K, V | None]]
"""Keys with their rows; None stands for a removed one."""


@dataclass(frozen=True, slots=True)
class Outgoing(Generic[K, V]):
    """A delta on its way, with the trace context of the newest commit in it."""

    shard: str
    delta: Delta[K, V]
    traceparent: str


@dataclass(slots=True)
class _Pending(Generic[K, V]):
    """Changes of a shard since ``previous`` to publish; None stands for a removed row."""

    previous: int
    changes: dict[K, V | None] = field(default_factory=dict)
    traceparent: str = ""


class Changelog(Generic[K, V]):
    """Rows, log and pending deltas of one table. ``sequence`` is 0 until the first reset.

    Args:
        computed: Gives the rows by shard where somebody else holds them in a smaller form; at each
            ``commit`` and ``reset`` it is already at that sequence.
    """

    def __init__(
        self,
        table: Table[K, V],
        *,
        computed: Mapping[str, Mapping[K, V]] | None = None,
        log_limit: int = LOG_LIMIT,
    ) -> None:
        self.table = table
        self.epoch = 0
        self.sequence = 0
        self._rows: dict[str, dict[K, V]] = {}
        self._computed = computed
        self._reset_at = 0
        self.log_start = 0
        """The log holds every change in (log_start, sequence]."""
        self.leading = False
        self._log_limit = log_limit
        self._log: dict[str, deque[tuple[int, Rows[K, V]]]] = {}
        self._order: deque[tuple[int, str]] = deque()  # keys of the log, the oldest first
        self._logged = 0
        self._heads: dict[str, int] = {}  # by sequence, the newest last
        self._versions: dict[str, int] = {}
        self._published: dict[str, int] = {}
        self._pending: dict[str, _Pending[K, V]] = {}
        self._together = False

    @property
    def rows(self) -> Mapping[str, Mapping[K, V]]:
        """Rows by shard."""
        return self._rows if self._computed is None else self._computed

    def reset(self, rows: Mapping[K, V], sequence: int, epoch: int) -> None:
        """Take over the whole table as of ``sequence``; ``rows`` are without meaning where they are
        computed.

        Within one epoch this is a commit of the differences, so that subscribers need no snapshot;
        where rows are computed those before are gone, so they do. What is older than the state is
        ignored. Epochs begin at 1.
        """
        if (epoch, sequence) < (self.epoch, self.sequence):
            return
        if epoch == self.epoch and self._computed is None:
            known = {key: row for shard in self._rows.values() for key, row in shard.items()}
            changed = {key: row for key, row in rows.items() if known.get(key) != row}
            self.commit(sequence, changed, [key for key in known if key not in rows])
            return
        self.epoch, self.sequence, self.log_start, self._reset_at = epoch, sequence, sequence, sequence
        self._rows = {}
        for key, row in rows.items():
            self._rows.setdefault(self.table.shard(key), {})[key] = row
        self._order.clear()
        self._logged = 0
        for store in (self._log, self._heads, self._published, self._pending, self._versions):
            store.clear()

    def commit(
        self,
        sequence: int,
        upserts: Mapping[K, V],
        removes: Iterable[K] = (),
        *,
        traceparent: str = "",
        together: bool = False,
    ) -> None:
        """Apply the changes of ``sequence``; none at all only move the sequence.

        A sequence that is not newer is ignored: it is part of the state already. With ``together``,
        subscribers hand the changes of all their shards over at once.
        """
        if sequence <= self.sequence:
            return
        self._together |= together
        self.sequence = sequence
        changed: Rows[K, V] = [*zip(removes, repeat(None)), *upserts.items()]
        shards = map(self.table.shard, (key for key, _ in changed))
        for shard, rows in groupby(zip(shards, changed, strict=True), itemgetter(0)):
            self._change(shard, [row for _, row in rows], traceparent)
        while self._logged > self._log_limit:
            self._forget_oldest()

    def _change(self, shard: str, rows: Rows[K, V], traceparent: str) -> None:
        self._versions[shard] = self.sequence
        if self._computed is None:
            self._store(shard, rows)
        log = self._log.get(shard)
        if log is None:
            log = self._log[shard] = deque()
        log.append((self.sequence, rows))
        self._order.append((self.sequence, shard))
        self._logged += len(rows)
        self._heads.pop(shard, None)
        self._heads[shard] = self.sequence
        if self.leading:
            pending = self._pending_of(shard)
            pending.changes.update(rows)
            pending.traceparent = traceparent or pending.traceparent

    def _store(self, shard: str, changes: Iterable[tuple[K, V | None]]) -> None:
        rows = self._rows.setdefault(shard, {})
        for key, row in changes:
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        if not rows:
            del self._rows[shard], self._versions[shard]

    def _forget_oldest(self) -> None:
        """Forget what one commit changed of one shard: with a row of it the rest is of no use."""
        self.log_start, shard = self._order.popleft()
        entries = self._log[shard]
        self._logged -= len(entries.popleft()[1])
        if not entries:
            del self._log[shard]

    def version(self, shard: str) -> tuple[int, int]:
        """Name the present content of the shard's rows, for caches."""
        return self.epoch, self._versions.get(shard, self._reset_at)

    def changes(self, shard: str, since: int) -> dict[K, V | None] | None:
        """Return the shard's changes after ``since``; None if the log doesn't reach back so far."""
        if since < self.log_start:
            return None
        return {key: row for at, rows in self._log.get(shard, ()) if at > since for key, row in rows}

    def shards_since(self, since: int) -> Iterator[tuple[str, int]]:
        """Give the shards that changed after ``since`` (at least ``log_start``) with their head,
        newest first.
        """
        for shard, head in reversed(self._heads.items()):
            if head <= since:
                return
            yield shard, head

    def lead(self, since: int) -> None:
        """Begin to publish, with changes after ``since`` that the last leader may not have sent."""
        self.leading = True
        self._published.clear()
        self._pending.clear()
        for shard, _ in list(self.shards_since(max(since, self.log_start))):
            self._pending_of(shard)

    def follow(self) -> None:
        """Leave publishing to another replica."""
        self.leading = False
        self._pending.clear()

    def _pending_of(self, shard: str) -> _Pending[K, V]:
        pending = self._pending.get(shard)
        if pending is None:
            published = self._published.get(shard)
            if published is None:
                pending = _Pending(self.log_start, self.changes(shard, self.log_start) or {})
            else:
                pending = _Pending(published)
            self._pending[shard] = pending
        return pending

    def take_pending(self) -> list[Outgoing[K, V]]:
        """Take the deltas that are to be published now, one for each shard that changed."""
        pending, self._pending = self._pending, {}
        together, self._together = self._together and len(pending) > 1, False
        outgoing = []
        for shard, each in pending.items():
            upserts = tuple([(key, row) for key, row in each.changes.items() if row is not None])
            removes = tuple([key for key, row in each.changes.items() if row is None])
            delta = Delta(self.epoch, each.previous, self.sequence, upserts, removes, together=together)
            outgoing.append(Outgoing(shard, delta, each.traceparent))
            self._published[shard] = self.sequence
        return outgoing

    @property
    def has_pending(self) -> bool:
        """Tell whether there is something to publish."""
        return bool(self._pending)

    def beacon(self, since: int) -> Beacon:
        """Return the beacon that covers (``since``, sequence]; less where the log is shorter."""
        since = max(since, self.log_start)
        return Beacon(self.epoch, since, self.sequence, dict(self.shards_since(since)))

    def prune(self) -> None:
        """Forget heads and published positions of shards that the log does not know any more."""
        for shard in list(takewhile(lambda shard: self._heads[shard] <= self.log_start, self._heads)):
            del self._heads[shard]
            self._published.pop(shard, None)
