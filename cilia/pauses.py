"""Pauses of this process (SIGSTOP, a suspended machine, a blocked loop), and what came meanwhile.

Requests wait in the connection until the process goes on, while whoever asked has given up and may
have had the opposite done by another replica. Such a request must not be carried out any more.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from cilia.bus import Bus
from cilia.errors import Unavailable

TICK_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 1.0
"""Time between two looks at the clock beyond which the process was paused."""


class Pauses:
    """Detector of pauses. ``run`` belongs beside the loop that takes messages.

    Args:
        clock: Seconds, which go on in a pause.
    """

    def __init__(self, bus: Bus, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._clock = clock
        self._looked = clock()
        self._paused = 0.0

    def longest_wait(self) -> float:
        """Return for how long a message that is delivered now may have waited for this process."""
        self._look()
        return self._paused

    async def run(self) -> None:
        """Look at the clock, until cancelled; after a pause, wait until all that waited is here."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._look()
            while self._paused:
                await self._drain()

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked > PAUSE_SECONDS:
            self._paused += now - self._looked
        self._looked = now

    async def _drain(self) -> None:
        """Await an answer of the server: what it had sent before precedes it."""
        before = self._clock()
        try:
            await self._bus.flush(timeout=PAUSE_SECONDS)
        except Unavailable:
            await asyncio.sleep(TICK_SECONDS)
            return
        now = self._clock()
        if now - before <= PAUSE_SECONDS:
            self._paused, self._looked = 0.0, now
