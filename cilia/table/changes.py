"""Changes of a table on their way to their one reader.

While the reader is busy, changes of a shard become one: what is pending is bounded by the table's
size. Shards that one transaction of the owner changed are given at once: a delta says that there
are others, and the beacon behind them that all have come.
"""

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

from cilia.notify import Broadcast, Wakeup
from cilia.table.counters import SubscriberCounters
from cilia.table.shard import Change

K = TypeVar("K")
V = TypeVar("V")


class PendingChanges(Generic[K, V]):
    """Changes by shard that the reader has not taken.

    Args:
        assembly_seconds: Longest pause for the other shards of a transaction; 0: none.
    """

    def __init__(self, assembly_seconds: float, counters: SubscriberCounters) -> None:
        self._assembly_seconds = assembly_seconds
        self._counters = counters
        self._pending: dict[str, Change[K, V]] = {}
        self._some = Wakeup()
        self._beacon = 0  # sequence of the newest
        self._assembling_to = 0
        self._assembled = Broadcast()

    def put(self, changes: Iterable[Change[K, V]]) -> None:
        """Add changes, in the order in which they happened."""
        for change in changes:
            pending = self._pending.get(change.shard)
            self._pending[change.shard] = pending.then(change) if pending is not None else change
            self._counters.changes += 1
            self._some.set()

    def expect_others(self, sequence: int) -> None:
        """Note that other shards change at ``sequence``, too, and a beacon follows them."""
        if sequence > self._beacon:
            self._assembling_to = sequence

    def reach(self, sequence: int) -> None:
        """Note that a beacon says: all up to ``sequence`` were sent."""
        self._beacon = sequence
        if sequence >= self._assembling_to:
            self._assembling_to = 0
            self._assembled.notify()

    async def take(self) -> list[Change[K, V]]:
        """Wait for changes and take all there are, one per shard."""
        while True:
            await self._some.wait()
            await self._assemble()
            changes, self._pending = self._pending, {}
            if changes:
                return list(changes.values())

    async def _assemble(self) -> None:
        if not (self._assembly_seconds and self._assembling_to):
            return
        try:
            async with asyncio.timeout(self._assembly_seconds):
                await self._assembled.wait_until(lambda: not self._assembling_to)
        except TimeoutError:
            self._counters.assembly_timeouts += 1
            self._assembling_to = 0
