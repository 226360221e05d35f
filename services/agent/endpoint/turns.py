"""Turns: calls for one pod follow each other, those for different pods don't wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """One lock per name, for as long as somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, namespace: str, name: str) -> AsyncIterator[None]:
        """Hold the turn of a pod for the block."""
        lock = self._locks.setdefault(f"{namespace}/{name}", asyncio.Lock())
        async with lock:
            yield
