"""Bounded hand-overs between loops: keyed state coalesces to its newest value, queues say no when full."""

import asyncio
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Latest(Generic[K, V]):
    """Keyed state on its way to one reader: of values that pile up under a key, only the newest arrives.

    Bounded by the number of keys. Keys arrive in the order in which they were first put.
    """

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: K, value: V) -> None:
        """Hand a value over, in place of one under the same key that was not taken yet."""
        self._values[key] = value
        self._some.set()

    async def take_all(self) -> dict[K, V]:
        """Wait for at least one value and take all there are."""
        await self._some.wait()
        self._some.clear()
        values, self._values = self._values, {}
        return values


class Inbox(Generic[T]):
    """A queue of at most ``limit`` items; what does not fit is refused and counted, never waited for."""

    def __init__(self, limit: int) -> None:
        self._queue: asyncio.Queue[T] = asyncio.Queue(limit)
        self.refused = 0
        """Items that found no room: requests to answer with ``busy``, or telemetry that was dropped."""

    def __len__(self) -> int:
        return self._queue.qsize()

    def offer(self, item: T) -> bool:
        """Put an item in, or return False when the queue is full."""
        if self._queue.full():
            self.refused += 1
            return False
        self._queue.put_nowait(item)
        return True

    async def take(self) -> T:
        """Wait for the oldest item."""
        return await self._queue.get()

    async def take_all(self) -> list[T]:
        """Wait for at least one item and take all there are, oldest first."""
        items = [await self._queue.get()]
        while not self._queue.empty():
            items.append(self._queue.get_nowait())
        return items
