"""What the programs report, as flows with names: to whoever listens on the socket, and in batches
to the bus.

Events are taken from the ring in bounded drains on the event loop and wait, packed, in a bounded
queue; they are decoded and named only if someone wants them. What finds no room is counted, never
waited for.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from cilia.abi.enums import EventKind, PolicyDirection
from cilia.abi.structs import Event
from cilia.bus import Bus
from cilia.contracts.direction import Direction
from cilia.contracts.flow_events import Flow, FlowBatch, FlowKind, FlowVerdict
from cilia.contracts.ids import NodeName
from cilia.contracts.protocols import protocol_name
from cilia.datapath.clock import UnixClock
from cilia.datapath.ring import RingBuffer
from cilia.errors import Unavailable
from cilia.mailbox import Inbox
from cilia.metrics import counter
from services.agent.address import unpacked

log = logging.getLogger(__name__)

DRAIN: Final = 256
"""Events taken at a time; the loop's other work runs in between."""
WAITING: Final = 8192
LIVE_SECONDS: Final = 0.05
PUBLISH_SECONDS: Final = 0.2
IDLE_SECONDS: Final = 0.5
"""Between two looks at the ring: while someone watches, while flows go to the bus, and when they
are only counted.
"""
LISTENER_LIMIT: Final = 4096
_KINDS: Final = {
    EventKind.VERDICT: FlowKind.VERDICT,
    EventKind.DROP: FlowKind.DROP,
    EventKind.TRACE: FlowKind.TRACE,
}


@dataclass(frozen=True, slots=True)
class Names:
    """How numbers of the kernel are named. Each answers with an empty text if it doesn't know."""

    endpoint: Callable[[int], str]
    """``namespace/name`` of a local endpoint's id."""
    address: Callable[[int], str]
    """``namespace/name`` of the pod of another node that has an address (services.agent.address).
    """
    policy: Callable[[int], str]
    """Key of the policy object behind a cookie."""
    reason: Callable[[int], str]
    """Of a drop."""


@dataclass(slots=True)
class FlowCounters:
    """What went by."""

    events: int = counter("events taken from the ring")
    dropped: int = counter("events that found no room in the agent")
    published: int = counter("flows sent to the bus")


def flow_of(event: Event, node: NodeName, clock: UnixClock, names: Names) -> Flow:
    """Name what an event is about."""
    dropped = event.kind == EventKind.DROP
    source, destination = _address(event.source, event.family), _address(event.destination, event.family)
    return Flow(
        time_ns=clock.unix_ns(event.time_ns),
        node=node,
        kind=_KINDS[EventKind(event.kind)],
        verdict=FlowVerdict.DROPPED if dropped else FlowVerdict.AUDIT if event.audited else FlowVerdict.FORWARDED,
        protocol=protocol_name(event.protocol).lower(),
        source=source,
        destination=destination,
        source_port=event.port[0],
        destination_port=event.port[1],
        source_identity=event.identity[0],
        destination_identity=event.identity[1],
        source_endpoint=_name(event.endpoint[0], event.source, names),
        destination_endpoint=_name(event.endpoint[1], event.destination, names),
        direction=Direction.of(event.direction == PolicyDirection.EGRESS),
        reason=names.reason(event.reason) if dropped else "",
        policy=names.policy(event.cookie) if event.cookie else "",
        bytes=event.length,
        is_reply=bool(event.is_reply),
    )


class Flows:
    """The ring's one consumer. ``run`` goes to the supervisor."""

    def __init__(
        self,
        ring: RingBuffer,
        bus: Bus,
        node: NodeName,
        names: Names,
        lost_in_kernel: Callable[[], int],
        *,
        publish: bool,
        record: Callable[[Event, Flow], None] | None = None,
    ) -> None:
        self._ring = ring
        self._bus = bus
        self._node = node
        self._names = names
        self._lost_in_kernel = lost_in_kernel
        self._publish = publish
        self._record = record
        self._waiting: deque[bytes] = deque()
        self._listeners: set[Inbox[Flow]] = set()
        self.counters = FlowCounters()

    def listen(self) -> Inbox[Flow]:
        """Return an inbox that gets every flow from now on; give it back to :meth:`leave`."""
        inbox: Inbox[Flow] = Inbox(LISTENER_LIMIT)
        self._listeners.add(inbox)
        return inbox

    def leave(self, inbox: Inbox[Flow]) -> None:
        """Send an inbox no more flows."""
        self._listeners.discard(inbox)

    async def run(self) -> None:
        """Take events, and hand flows on, until cancelled.

        The programs wake us only when much has piled up (a wake-up costs more than a packet);
        otherwise we come.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ring.fileno(), self._drain)
        lost = self._lost_in_kernel()
        try:
            while True:
                await asyncio.sleep(self._pause())
                for _ in range(self._ring.size_bytes // (DRAIN * self._ring.record_size)):
                    if self._drain() < DRAIN:
                        break
                    await asyncio.sleep(0)
                lost = await self._hand_on(lost)
        finally:
            loop.remove_reader(self._ring.fileno())

    def _pause(self) -> float:
        if self._listeners:
            return LIVE_SECONDS
        return PUBLISH_SECONDS if self._publish or self._record is not None else IDLE_SECONDS

    @property
    def _wanted(self) -> bool:
        return self._publish or self._record is not None or bool(self._listeners)

    def _drain(self) -> int:
        """Take events from the ring, at most DRAIN; return how many they were."""
        drained = self._ring.drain()
        self.counters.events += drained.taken
        if drained.taken and self._wanted:
            if len(self._waiting) * DRAIN < WAITING:
                self._waiting.append(bytes(drained.records))
            else:
                self.counters.dropped += drained.taken
        return drained.taken

    async def _hand_on(self, lost: int) -> int:
        """Name and send what waits; return the count of lost events that the bus was told."""
        clock = UnixClock.now()
        while self._waiting:
            records = self._waiting.popleft()
            flows = tuple(self._name_each(records, clock))
            for inbox in self._listeners:
                for flow in flows:
                    inbox.offer(flow)
            if self._publish and self._bus.connected:
                so_far = self.counters.dropped + self._lost_in_kernel()
                await self._send(FlowBatch(self._node, flows, so_far - lost))
                lost = so_far
            await asyncio.sleep(0)
        return lost

    def _name_each(self, records: bytes, clock: UnixClock) -> Iterator[Flow]:
        for event in Event.unpack_each(records):
            flow = flow_of(event, self._node, clock, self._names)
            if self._record is not None:
                self._record(event, flow)
            yield flow

    async def _send(self, batch: FlowBatch) -> None:
        try:
            await self._bus.publish(self._bus.subjects.flow(self._node), msgspec.json.encode(batch))
            self.counters.published += len(batch.flows)
        except Unavailable as error:
            log.debug("flows are lost: %s", error)


def _name(endpoint: int, address: bytes, names: Names) -> str:
    if endpoint:
        return names.endpoint(endpoint)
    return names.address(unpacked(address))


def _address(data: bytes, family: int) -> str:
    """Return an address as text; empty where the packet has none that we know to read."""
    match family:
        case 4:
            return str(IPv4Address(data[12:]))
        case 6:
            return str(IPv6Address(data))
        case _:
            return ""
