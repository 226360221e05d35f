"""Reading of events: from the ring, by name, to the bus in batches and to the aggregation.

Events are taken from the ring in bounded drains on the event loop and queue up, packed, in bounded
memory; they are decoded and named only if someone wants them, and in a share of the loop's time:
policy comes first. What finds no room is counted, never waited for.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

from cilia.abi.structs import Event
from cilia.bus import Bus
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.contracts.flow_events import Flow, FlowBatch
from cilia.contracts.ids import NodeName
from cilia.datapath.clock import UnixClock
from cilia.datapath.ring import Drained
from cilia.errors import Unavailable
from cilia.metrics import counter
from services.agent.flows.naming import Names, flow_of

log = logging.getLogger(__name__)

DRAIN: Final = 256
"""Events taken at a time; the loop's other work runs in between."""
QUEUE_EVENTS: Final = 32768
"""Events that wait, some 2.6 MB."""
SHARE: Final = 0.1
"""Part of the loop's time in which events are named and sent while more of them wait."""
PUBLISH_SECONDS: Final = 0.2
"""Pause between two looks at the ring while flows go to the bus or are aggregated."""
IDLE_SECONDS: Final = 0.5
"""Pause while events are only counted."""


class Ring(Protocol):
    """A ring buffer of events (cilia.datapath.ring)."""

    record_size: int
    size_bytes: int

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when much has piled up."""
        ...

    def drain(self) -> Drained:
        """Take records, at most DRAIN."""
        ...


class Unreported(NamedTuple):
    """Counts of what the programs didn't report, from the beginning of the map that holds them."""

    lost: Callable[[], int]
    """Events that found no room in the ring."""
    limited: Callable[[], int]
    """Events above a limit."""


@dataclass(slots=True)
class FlowCounters:
    """Counts of events and flows that went by."""

    events: int = counter("events taken from the ring")
    dropped: int = counter("events that found no room in the agent")
    published: int = counter("flows sent to the bus")


class EventReader:
    """The ring's one consumer. ``run`` goes to the supervisor.

    Args:
        unreported: Gives how many events have not come into the ring so far.
        publish: Send flows to the bus.
        aggregate: Takes each event with its flow; None: nobody aggregates.
    """

    def __init__(
        self,
        ring: Ring,
        bus: Bus,
        node: NodeName,
        names: Names,
        unreported: Unreported,
        *,
        publish: bool,
        aggregate: Callable[[Event, Flow], None] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._bus = bus
        self._node = node
        self._names = names
        self._unreported = unreported
        self._publish = publish
        self._aggregate = aggregate
        self._wanted = publish or aggregate is not None
        self._queue: deque[bytes] = deque()
        self._clock = clock
        self._told_lost = self._told_limited = 0
        self.counters = FlowCounters()

    async def run(self) -> None:
        """Take events, and hand flows on, until cancelled.

        The programs wake us only when much has piled up (a wake-up costs more than a packet);
        otherwise we come.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ring.fileno(), self.drain)
        self._told_lost, self._told_limited = self._unreported.lost(), self._unreported.limited()
        pause = PUBLISH_SECONDS if self._wanted else IDLE_SECONDS
        try:
            while True:
                await asyncio.sleep(pause)
                for _ in range(self._ring.size_bytes // (DRAIN * self._ring.record_size)):
                    if self.drain() < DRAIN:
                        break
                    await asyncio.sleep(0)
                await self.hand_on()
        finally:
            loop.remove_reader(self._ring.fileno())

    def drain(self) -> int:
        """Take events from the ring, at most DRAIN; return how many they were."""
        drained = self._ring.drain()
        self.counters.events += drained.taken
        if drained.taken and self._wanted:
            if len(self._queue) * DRAIN < QUEUE_EVENTS:
                self._queue.append(bytes(drained.records))
            else:
                self.counters.dropped += drained.taken
        return drained.taken

    async def hand_on(self) -> None:
        """Name and send what is queued, with the number of events lost since the last batch."""
        while self._queue:
            began = self._clock()
            flows = tuple(self._name_each(self._queue.popleft(), UnixClock.now()))
            if self._publish and self._bus.connected:
                await self._send(self._batch(flows))
            rest = (self._clock() - began) * (1 / SHARE - 1)
            await asyncio.sleep(rest if self._queue else 0)

    def _batch(self, flows: tuple[Flow, ...]) -> FlowBatch:
        lost, limited = self.counters.dropped + self._unreported.lost(), self._unreported.limited()
        batch = FlowBatch(self._node, flows, lost - self._told_lost, limited - self._told_limited)
        self._told_lost, self._told_limited = lost, limited
        return batch

    def status(self) -> LoopStatus:
        """Return how many events were not shown, and why."""
        counts = {
            "above the limit of their pod or node": self._unreported.limited(),
            "no room in the ring": self._unreported.lost(),
            "no room in the agent": self.counters.dropped,
        }
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        waiting = len(self._queue) * DRAIN
        return LoopStatus(LoopName.FLOWS, desired=0, pending=waiting, failures=sum(counts.values()), last_error=why)

    def _name_each(self, records: bytes, clock: UnixClock) -> Iterator[Flow]:
        for event in Event.unpack_each(records):
            flow = flow_of(event, self._node, clock, self._names)
            if self._aggregate is not None:
                self._aggregate(event, flow)
            yield flow

    async def _send(self, batch: FlowBatch) -> None:
        try:
            await self._bus.publish(self._bus.subjects.flow(self._node), msgspec.json.encode(batch))
            self.counters.published += len(batch.flows)
        except Unavailable as error:
            log.debug("flows are lost: %s", error)
