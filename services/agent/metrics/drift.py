"""What the audits of the kernel find: changes that somebody else made, in words, to whoever should
know of them.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.bus import Bus
from cilia.contracts.drift import ForeignChange
from cilia.contracts.ids import NodeName
from cilia.errors import Unavailable
from cilia.metrics import counter

log = logging.getLogger(__name__)

MOST_TOLD: Final = 20
WAITING: Final = 64
PAUSES: Final = 10
"""A look is followed by at least so many times its own length: 100,000 entries take half a second
to read.
"""


@dataclass(slots=True)
class DriftCounters:
    """What the audits saw."""

    looks: int = counter("looks at what the kernel holds")
    foreign: int = counter("differences in the kernel that somebody else had made, and that were repaired")


class DriftReports:
    """Tells of foreign changes by log, counters, status (``last``) and bus.

    ``run`` goes to the supervisor.
    """

    def __init__(self, bus: Bus, node: NodeName) -> None:
        self._bus = bus
        self._node = node
        self._untold: asyncio.Queue[ForeignChange] = asyncio.Queue(WAITING)
        self.last = ""
        self.counters = DriftCounters()

    def report(self, part: str, found: Sequence[str]) -> None:
        """Say what there was instead of what there ought to be; nothing if ``found`` is empty."""
        if not found:
            return
        self.counters.foreign += len(found)
        self.last = f"{part}: {found[0]}"
        log.error("somebody else changed the %s; it is repaired: %s", part, "; ".join(found[:MOST_TOLD]))
        if not self._untold.full():
            change = ForeignChange(self._node, time.time_ns(), part, tuple(found[:MOST_TOLD]), len(found))
            self._untold.put_nowait(change)

    async def run(self) -> None:
        """Tell the bus, until cancelled."""
        while True:
            change = await self._untold.get()
            try:
                await self._bus.publish(self._bus.subjects.audit(self._node), msgspec.json.encode(change))
            except Unavailable as error:
                log.debug("a foreign change is not told: %s", error)
