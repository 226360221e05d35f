"""Bounded hand-overs between loops: a full queue says no."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue of at most ``limit`` items; what does not fit is refused and counted, never waited
    for.
    """

    def __init__(self, limit: int) -> None:
        self._queue: asyncio.Queue[T] = asyncio.Queue(limit)
        self.refused = 0
        """Items that found no room: requests to answer with ``busy``, or telemetry that was
        dropped.
        """

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
