"""The loop that tells the recorder of this node's distinct flows.

What is new goes within a second, counts of the rest each ``refresh_seconds``. A batch is sent again
until it is answered, under one name, so that the recorder counts it once; meanwhile the rest adds
up in bounded memory.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random
from typing import Final

from cilia.bus import Bus
from cilia.contracts.flows import RecordFlows
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty
from cilia.errors import Refused, Unavailable
from services.agent.flows.distinct import DistinctFlows

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 1.0
REFRESH_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
MOST_FLOWS: Final = 500
"""Of a batch: some 150 KB, well below what a message may hold."""


class Recording:
    """Sends batches. ``run`` goes to the supervisor."""

    def __init__(
        self,
        bus: Bus,
        node: NodeName,
        flows: DistinctFlows,
        *,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._node = node
        self._flows = flows
        self._random = random or Random()
        self._clock = clock
        self._life = f"{time.time_ns():x}"
        self._batches = 0
        self._refreshed = clock()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await asyncio.sleep(FRESH_SECONDS * self._random.uniform(0.8, 1.2))
            batch = self._next()
            if batch is not None:
                await self._tell(batch)

    def _next(self) -> RecordFlows | None:
        now = self._clock()
        everything = now - self._refreshed >= REFRESH_SECONDS
        if not everything and not self._flows.has_fresh:
            return None
        flows, lost = self._flows.hand_over(MOST_FLOWS, everything=everything)
        if everything and len(flows) < MOST_FLOWS:
            self._refreshed = now
        if not flows and not lost:
            return None
        self._batches += 1
        return RecordFlows(self._node, flows, f"{self._life}-{self._batches}", lost)

    async def _tell(self, batch: RecordFlows) -> None:
        while True:
            if await self._send(batch):
                return
            await asyncio.sleep(RETRY_SECONDS * self._random.uniform(0.5, 1.5))

    async def _send(self, batch: RecordFlows) -> bool:
        try:
            subject = self._bus.subjects.request("recorder", "record")
            await self._bus.request(subject, batch, Empty, timeout=ANSWER_SECONDS)
        except (Unavailable, Refused) as error:
            log.debug("distinct flows wait: %s", error)
            return False
        return True
