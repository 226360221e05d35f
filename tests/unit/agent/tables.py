"""Mirror of a table whose rows a test commits, in place of a subscriber on the bus."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Generic, TypeVar, cast

from cilia.contracts.tables import ONE_SHARD
from cilia.notify import Broadcast
from cilia.table.shard import Change
from cilia.table.subscriber import TableSubscriber

K = TypeVar("K")
V = TypeVar("V")


class MirroredTable(Generic[K, V]):
    """Shards of a table, complete as soon as they are committed to, if anybody is interested."""

    def __init__(self, *, every: bool = True) -> None:
        self._every = every
        self._rows: dict[str, dict[K, V]] = {}
        self._sequences: dict[str, int] = {}
        self._changes: asyncio.Queue[list[Change[K, V]]] = asyncio.Queue()
        self._news = Broadcast()
        self.interest: set[str] = set()

    @property
    def subscriber(self) -> TableSubscriber[K, V]:
        """Itself, for code under test."""
        return cast(TableSubscriber[K, V], self)

    def commit(
        self,
        upserts: Mapping[K, V] | None = None,
        removes: Iterable[K] = (),
        *,
        sequence: int = 1,
        shard: str = ONE_SHARD,
        traceparent: str = "",
    ) -> None:
        """Have the owner's change of one shard arrive."""
        self.commit_together({shard: upserts or {}}, removes, sequence=sequence, traceparent=traceparent)

    def commit_together(
        self,
        shards: Mapping[str, Mapping[K, V]],
        removes: Iterable[K] = (),
        *,
        sequence: int = 1,
        traceparent: str = "",
    ) -> None:
        """Have changes of several shards arrive in one hand-over."""
        changes = []
        for shard, upserts in shards.items():
            rows = self._rows.setdefault(shard, {})
            rows.update(upserts)
            for key in removes:
                rows.pop(key, None)
            self._sequences[shard] = sequence
            changes.append(Change(shard, sequence, dict(upserts), frozenset(removes), traceparent=traceparent))
        self._changes.put_nowait(changes)
        self._news.notify()

    @property
    def complete(self) -> bool:
        return bool(self._sequences)

    def shard_complete(self, shard: str) -> bool:
        return self.sequence(shard) > 0

    def sequence(self, shard: str) -> int:
        return self._sequences.get(shard, 0) if self._every or shard in self.interest else 0

    def rows(self, shard: str) -> Mapping[K, V]:
        return self._rows.get(shard, {}) if self.sequence(shard) else {}

    def add_shard(self, shard: str) -> None:
        self.interest.add(shard)
        self._news.notify()

    def drop_shard(self, shard: str) -> None:
        self.interest.discard(shard)

    async def wait_complete(self) -> None:
        await self._news.wait_until(lambda: self.complete)

    async def wait_sequence(self, shard: str, sequence: int) -> None:
        await self._news.wait_until(lambda: self.sequence(shard) >= sequence)

    async def run(self) -> None:
        """Stand in for the loop that listens: rows come by ``commit``."""
        await asyncio.Event().wait()

    async def changes(self) -> AsyncIterator[list[Change[K, V]]]:
        while True:
            yield await self._changes.get()


async def turns(count: int = 20) -> None:
    """Let the loops that are ready run."""
    for _ in range(count):
        await asyncio.sleep(0)
