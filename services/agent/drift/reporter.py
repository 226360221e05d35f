"""Reporter of drift: changes by others in the kernel, told by log, metric, status and bus."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from cilia.bus import Bus
from cilia.contracts.drift import ForeignChange
from cilia.contracts.ids import NodeName
from cilia.errors import Unavailable
from cilia.metrics import counter

log = logging.getLogger(__name__)

MOST_REPORTED: Final = 20
QUEUE_SIZE: Final = 64


class Drift(NamedTuple):
    """Differences that a look found in one part of the kernel, each described in words."""

    part: str
    differences: tuple[str, ...]
    untold: int = 0
    """Number of differences beyond those described."""

    @property
    def total(self) -> int:
        """Number of all differences."""
        return len(self.differences) + self.untold


def some_of(part: str, differences: Iterable[str], total: int) -> Drift:
    """Return a drift of which no more is put in words than is reported; ``total`` in all."""
    told = tuple(islice(differences, MOST_REPORTED))
    return Drift(part, told, total - len(told))


@dataclass(slots=True)
class DriftCounters:
    """Counters of the drift loops."""

    looks: int = counter("looks at what the kernel holds")
    foreign: int = counter("differences in the kernel that somebody else had made, and that were repaired")


class DriftReporter:
    """Reports foreign changes by log, counters, status (``last``) and bus.

    ``run`` goes to the supervisor.
    """

    def __init__(self, bus: Bus, node: NodeName, unix_ns: Callable[[], int] = time.time_ns) -> None:
        self._bus = bus
        self._node = node
        self._unix_ns = unix_ns
        self._unpublished: asyncio.Queue[ForeignChange] = asyncio.Queue(QUEUE_SIZE)
        self.last = ""
        """Description of the latest difference; empty if there was none."""
        self.counters = DriftCounters()

    def report(self, drift: Drift) -> None:
        """Report differences that were repaired; nothing if there are none."""
        part, found, _ = drift
        if not found:
            return
        self.counters.foreign += drift.total
        self.last = f"{part}: {found[0]}"
        log.error("somebody else changed the %s; it is repaired: %s", part, "; ".join(found[:MOST_REPORTED]))
        if not self._unpublished.full():
            change = ForeignChange(self._node, self._unix_ns(), part, found[:MOST_REPORTED], drift.total)
            self._unpublished.put_nowait(change)

    async def run(self) -> None:
        """Publish reports on the bus, until cancelled; one that the bus doesn't take is dropped."""
        while True:
            change = await self._unpublished.get()
            try:
                await self._bus.publish(self._bus.subjects.drift(self._node), msgspec.json.encode(change))
            except Unavailable as error:
                log.debug("drift is not published: %s", error)
