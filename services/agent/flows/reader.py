"""Reading of events: from the ring, by name, to the bus in batches and to the aggregation.

Events are taken from the ring in bounded drains on the event loop and queue up, packed, in bounded
memory; they are decoded and named only if someone wants them. What finds no room is counted, never
waited for.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from cilia.abi.structs import Event
from cilia.bus import Bus
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
QUEUE_EVENTS: Final = 8192
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


@dataclass(slots=True)
class FlowCounters:
    """Counts of events and flows that went by."""

    events: int = counter("events taken from the ring")
    dropped: int = counter("events that found no room in the agent")
    published: int = counter("flows sent to the bus")


class EventReader:
    """The ring's one consumer. ``run`` goes to the supervisor.

    Args:
        lost_in_kernel: Gives how many events have found no room in the ring so far.
        publish: Send flows to the bus.
        aggregate: Takes each event with its flow; None: nobody aggregates.
    """

    def __init__(
        self,
        ring: Ring,
        bus: Bus,
        node: NodeName,
        names: Names,
        lost_in_kernel: Callable[[], int],
        *,
        publish: bool,
        aggregate: Callable[[Event, Flow], None] | None,
    ) -> None:
        self._ring = ring
        self._bus = bus
        self._node = node
        self._names = names
        self._lost_in_kernel = lost_in_kernel
        self._publish = publish
        self._aggregate = aggregate
        self._wanted = publish or aggregate is not None
        self._queue: deque[bytes] = deque()
        self._reported_lost = 0
        self.counters = FlowCounters()

    async def run(self) -> None:
        """Take events, and hand flows on, until cancelled.

        The programs wake us only when much has piled up (a wake-up costs more than a packet);
        otherwise we come.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ring.fileno(), self.drain)
        self._reported_lost = self._lost_in_kernel()
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
        clock = UnixClock.now()
        while self._queue:
            flows = tuple(self._name_each(self._queue.popleft(), clock))
            if self._publish and self._bus.connected:
                lost = self.counters.dropped + self._lost_in_kernel()
                await self._send(FlowBatch(self._node, flows, lost - self._reported_lost))
                self._reported_lost = lost
            await asyncio.sleep(0)

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
