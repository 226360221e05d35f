"""Notifications between the loops of one process: work for one loop, news for whoever waits.

State travels by itself (the writer changes it, readers look at it); these only say that a look is
worth it.
"""

import asyncio
from collections.abc import Callable


class Wakeup:
    """Work for the one loop that waits: calls between two of its rounds become one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Tell whether the loop has been woken and hasn't begun its round."""
        return self._event.is_set()

    def set(self) -> None:
        """Have the loop do another round."""
        self._event.set()

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until woken, or for so long; tell which. Another round needs another ``set``."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Broadcast:
    """News for all who wait at the moment of the call; who comes later waits for the next."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next call of ``notify``; bound it with ``asyncio.timeout``."""
        await self._event.wait()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds`` does, looking again after each notification; bound it likewise."""
        while not holds():
            await self._event.wait()
