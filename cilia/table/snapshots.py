"""Snapshots as chunks: a whole shard, all shards, or what changed since, at one sequence.

Built without a pause, so a snapshot shows one moment; encoded blocks of a shard are kept until the
shard changes.
"""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Generic, TypeVar

from cilia.contracts.distribution import SnapshotRequest
from cilia.contracts.subjects import EVERY_SHARD
from cilia.table.changelog import Changelog
from cilia.table.wire import EMPTY, Block, array, encode, merge, pack

K = TypeVar("K")
V = TypeVar("V")


class Snapshots(Generic[K, V]):
    """Snapshots of one changelog's rows."""

    def __init__(self, changelog: Changelog[K, V]) -> None:
        self._changelog = changelog
        self._blocks: dict[str, tuple[tuple[int, int], list[Block]]] = {}

    def answer(self, shard: str, request: SnapshotRequest) -> list[bytes]:
        """Return the chunks that answer a request; for all shards if ``shard`` is EVERY_SHARD."""
        changelog = self._changelog
        if request.since and request.epoch == changelog.epoch:
            changes = self._changes(shard, request.since)
            if changes is not None:
                upserts = pack((key, row) for key, row in changes.items() if row is not None)
                removes = pack(key for key, row in changes.items() if row is None)
                return self._chunks(request.since, upserts, removes)
        shards = list(changelog.rows) if shard == EVERY_SHARD else [shard]
        return self._chunks(0, merge(block for each in shards for block in self._shard(each)), ())

    def _changes(self, shard: str, since: int) -> dict[K, V | None] | None:
        if shard != EVERY_SHARD:
            return self._changelog.changes(shard, since)
        if since < self._changelog.log_start:
            return None
        together: dict[K, V | None] = {}
        for each, _ in self._changelog.shards_since(since):
            together |= self._changelog.changes(each, since) or {}
        return together

    def _shard(self, shard: str) -> list[Block]:
        rows = self._changelog.rows.get(shard)
        if rows is None:
            self._blocks.pop(shard, None)
            return []
        version = self._changelog.version(shard)
        kept = self._blocks.get(shard)
        if kept is None or kept[0] != version:
            kept = self._blocks[shard] = version, list(pack(rows.items()))
        return kept[1]

    def _chunks(self, since: int, upserts: Iterable[Block], removes: Iterable[Block]) -> list[bytes]:
        return list(self._encode(since, list(zip_longest(upserts, removes, fillvalue=EMPTY)) or [(EMPTY, EMPTY)]))

    def _encode(self, since: int, pairs: list[tuple[Block, Block]]) -> Iterator[bytes]:
        """Write each pair in the shape of a :class:`~cilia.contracts.tables.SnapshotChunk`."""
        epoch, sequence = self._changelog.epoch, self._changelog.sequence
        for part, (upserts, removes) in enumerate(pairs):
            last = part == len(pairs) - 1
            yield encode((epoch, sequence, since, part, last, array(upserts), array(removes)))
