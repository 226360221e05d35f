"""Export of distinct flows to the recorder.

What is new goes within a second, counts of the rest each ``REFRESH_SECONDS``. A batch is sent again
until it is answered, under one name, so that the recorder counts it once; meanwhile the rest adds
up in bounded memory.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random
from typing import Final

from cilia.backoff import Backoff
from cilia.bus import Bus
from cilia.contracts.flows import RecordFlows
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty
from cilia.errors import Refused, Unavailable
from services.agent.flows.aggregation import DistinctFlows

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 1.0
REFRESH_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 4.0
BATCH_FLOWS: Final = 500
"""Flows of a batch: some 150 KB, well below what a message may hold."""


class FlowExport:
    """Sender of batches. ``run`` goes to the supervisor."""

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
        self._backoff = Backoff(RETRY_SECONDS, LONGEST_RETRY_SECONDS, self._random.uniform)
        self._life = f"{time.time_ns():x}"
        self._batches = 0
        self._refreshed = clock()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await asyncio.sleep(FRESH_SECONDS * self._random.uniform(0.8, 1.2))
            batch = self.next_batch()
            while batch is not None and not await self.send(batch):
                await self._backoff.pause()
            self._backoff.reset()

    def next_batch(self) -> RecordFlows | None:
        """Return what the recorder should hear of now; None: nothing."""
        now = self._clock()
        everything = now - self._refreshed >= REFRESH_SECONDS
        if not everything and not self._flows.has_fresh:
            return None
        flows, lost = self._flows.take_unreported(BATCH_FLOWS, everything=everything)
        if everything and len(flows) < BATCH_FLOWS:
            self._refreshed = now
        if not flows and not lost:
            return None
        self._batches += 1
        return RecordFlows(self._node, flows, f"{self._life}-{self._batches}", lost)

    async def send(self, batch: RecordFlows) -> bool:
        """Send a batch; tell whether the recorder has it now."""
        try:
            subject = self._bus.subjects.request("recorder", "record")
            await self._bus.request(subject, batch, Empty, timeout=ANSWER_SECONDS)
        except (Unavailable, Refused) as error:
            log.debug("distinct flows are not exported yet: %s", error)
            return False
        return True
