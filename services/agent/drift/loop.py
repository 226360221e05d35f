"""Loop that looks for drift: what the kernel holds otherwise than written, mended and reported.

Nobody else should write our maps and programs; who does, by mistake or on purpose, opens or closes
the node. A look reads in a worker thread; one during which the agent itself wrote tells nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeVar

from cilia.datapath.errors import DatapathError
from services.agent.drift.reporter import Drift, DriftReporter

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")

ATTEMPTS: Final = 5
REST: Final = 10
"""Least rest after a look, in lengths of that look: 100,000 entries take half a second to read."""

Look = Callable[[], Awaitable[Iterable[Drift]]]
"""Reads a part of the kernel, mends what differs, and returns it."""


class DriftLoop:
    """Looks every few seconds. ``run`` goes to the supervisor.

    Args:
        looks: Looks by the noun for what they read.
        seconds: Pause between two rounds of looks.
    """

    def __init__(
        self,
        looks: Mapping[str, Look],
        reporter: DriftReporter,
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._looks = looks
        self._reporter = reporter
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        seconds = self._seconds
        while True:
            await self._sleep(seconds)
            began = self._clock()
            await self.look()
            seconds = max(self._seconds, (self._clock() - began) * REST)

    async def look(self) -> None:
        """Look once at everything; a look that the kernel refuses doesn't keep the others."""
        for noun, look in self._looks.items():
            try:
                for drift in await look():
                    self._reporter.report(drift)
            except (DatapathError, OSError) as error:
                log.error("can't compare the %s with what was written: %s", noun, error)
        self._reporter.counters.looks += 1


async def read_undisturbed(read: Callable[[], Awaitable[R]], writes: Callable[[], int]) -> R | None:
    """Read while we ourselves write nothing; None if we do so all the time.

    Args:
        writes: Returns a number that grows with each of our writes.
    """
    for _ in range(ATTEMPTS):
        before = writes()
        found = await read()
        if writes() == before:
            return found
    return None


def differences(found: Mapping[K, V], written: Mapping[K, V]) -> dict[K, tuple[V | None, V | None]]:
    """Return what is found and what was written, by key, where they are not the same."""
    return {
        key: (found.get(key), written.get(key)) for key in {**written, **found} if found.get(key) != written.get(key)
    }
