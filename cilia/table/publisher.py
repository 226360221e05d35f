"""The owner's loops: answer snapshot requests on every replica; publish deltas and beacons while
leading.

A delta leaves at once when the line is idle; while a batch is being sent and flushed, changes
gather for the next.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec
from nats.aio.msg import Msg

from cilia.bus import Bus
from cilia.contracts.tables import SnapshotRequest, Table
from cilia.errors import Unavailable
from cilia.lifecycle import Loop
from cilia.mailbox import Inbox
from cilia.metrics import counter
from cilia.table.batches import Holders, Packed, pack
from cilia.table.changelog import LOG_LIMIT, Changelog
from cilia.table.snapshots import Snapshots
from cilia.table.wire import encode, encode_delta
from cilia.telemetry import TRACEPARENT

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

BEACON_SECONDS: Final = 1.0
BEACON_GAP_SECONDS: Final = 0.1
"""Beacons that follow batches keep this distance."""
BEACON_WINDOW: Final = 10
"""How many of the regular beacons back a beacon reaches."""
AT_LEAST_SECONDS: Final = 1.0
"""How long a replica waits for the sequence that a request wants."""
ANSWERING: Final = 16
WAITING: Final = 1024


@dataclass(slots=True)
class PublisherCounters:
    """What a table's publisher did."""

    deltas: int = counter("deltas published")
    parcels: int = counter("messages with the deltas of many shards published")
    batches: int = counter("batches of deltas published")
    beacons: int = counter("beacons published")
    answers: int = counter("snapshot requests answered")
    answer_bytes: int = counter("bytes of answers to snapshot requests")
    failures: int = counter("messages that did not reach the bus")


class TablePublisher(Generic[K, V]):
    """Distributes one table from its owner.

    ``reset`` and ``commit`` are called by the one loop of the service that follows the kvstore,
    ``lead`` and ``follow`` by its election; ``loops`` go to the supervisor.
    """

    def __init__(
        self,
        bus: Bus,
        table: Table[K, V],
        *,
        computed: Mapping[str, Mapping[K, V]] | None = None,
        holders: Holders | None = None,
        pause_seconds: float = 0.0,
        log_limit: int = LOG_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a publisher.

        Args:
            computed: See :class:`Changelog`.
            holders: Who is known to hold a shard and may be sent its deltas by name, in a parcel.
            pause_seconds: How long changes gather before they leave, so that tables that matter
                more go first.
        """
        self._bus = bus
        self._table = table
        self._holders = holders
        self._pause_seconds = pause_seconds
        self._clock = clock
        self.history = Changelog(table, computed=computed, log_limit=log_limit)
        self.counters = PublisherCounters()
        self._answers = Snapshots(self.history)
        self._requests: Inbox[Msg] = Inbox(WAITING)
        self._changed = asyncio.Event()  # something is pending
        self._advanced = asyncio.Event()  # replaced by each commit, for those who wait for a sequence
        self._beacon_due = asyncio.Event()
        self._marks: deque[int] = deque(maxlen=BEACON_WINDOW)  # sequences at the regular beacons
        bus.on_reconnect(self._beacon_due.set)

    def reset(self, rows: Mapping[K, V], sequence: int, epoch: int) -> None:
        """Take over the whole table as of ``sequence``; see :meth:`Changelog.reset`."""
        self.history.reset(rows, sequence, epoch)
        self._notify()
        self._beacon_due.set()

    def commit(
        self,
        sequence: int,
        upserts: Mapping[K, V],
        removes: Iterable[K] = (),
        *,
        traceparent: str = "",
        together: bool = False,
        announce: bool = False,
    ) -> None:
        """Take over what changed at ``sequence``; see :meth:`Changelog.commit`.

        With ``announce``, subscribers hear at once that they have it, also those of shards that did
        not change.
        """
        self.history.commit(sequence, upserts, removes, traceparent=traceparent, together=together)
        self._notify()
        if announce and not self.history.has_pending:
            self._beacon_due.set()

    def _notify(self) -> None:
        if self.history.has_pending:
            self._changed.set()
        self._advanced.set()
        self._advanced = asyncio.Event()

    def lead(self) -> None:
        """Begin to publish, with all that changed of late: the leader before may not have sent it."""
        if not self.history.leading:
            self.history.lead(self._window())
            self._notify()
            self._beacon_due.set()

    def follow(self) -> None:
        """Leave publishing to another replica."""
        self.history.follow()

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    def loops(self) -> dict[str, Loop]:
        """Return the loops to supervise, named after the table."""
        name = self._table.name
        return {
            f"{name}.snapshots": self.serve_snapshots,
            f"{name}.deltas": self.publish,
            f"{name}.beacon": self.beacon,
        }

    async def publish(self) -> None:
        """Publish pending deltas while leading, until cancelled."""
        while True:
            await self._changed.wait()
            if self._pause_seconds:
                await asyncio.sleep(self._pause_seconds)
            await self._bus.wait_connected()
            self._changed.clear()
            try:
                await self._publish_batch()
            except Unavailable as error:  # the beacon tells subscribers what they missed
                self.counters.failures += 1
                log.warning("deltas of %s may be lost: %s", self._table.name, error)

    async def _publish_batch(self) -> None:
        outgoing = self.history.take_pending()
        packed = pack(outgoing, self._holders) if self._holders else Packed((), outgoing)
        for parcel in packed.parcels:
            subject = self._bus.subjects.parcel(self._table, parcel.holder)
            await self._bus.publish(subject, parcel.payload, headers=_trace(parcel.traceparent))
        for each in packed.deltas:
            subject = self._bus.subjects.delta(self._table, each.shard)
            for payload in encode_delta(each.delta):
                await self._bus.publish(subject, payload, headers=_trace(each.traceparent))
        if any(each.delta.together for each in packed.deltas):
            await self._send_beacon(self._window())
        if outgoing:
            await self._bus.flush()
            self.counters.deltas += len(outgoing)
            self.counters.parcels += len(packed.parcels)
            self.counters.batches += 1
            self._beacon_due.set()

    async def beacon(self) -> None:
        """Publish a beacon each second and after batches while leading, until cancelled."""
        last = 0
        regular = self._clock()
        while True:
            due = await self._wait_beacon(regular - self._clock())
            now = self._clock()
            since = last
            if not due or now >= regular:
                regular = now + BEACON_SECONDS
                since = self._window()
                self._marks.append(self.history.sequence)
                self.history.prune()
            if self.history.leading and self.history.sequence and self._bus.connected:
                last = self.history.sequence
                await self._send_beacon(since)
            await asyncio.sleep(BEACON_GAP_SECONDS)

    async def _wait_beacon(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._beacon_due.wait()
        except TimeoutError:
            return False
        self._beacon_due.clear()
        return True

    async def _send_beacon(self, since: int) -> None:
        payload = encode(self.history.beacon(since))
        try:
            await self._bus.publish(self._bus.subjects.beacon(self._table), payload)
            self.counters.beacons += 1
        except Unavailable as error:  # the next second has another
            self.counters.failures += 1
            log.debug("no beacon of %s: %s", self._table.name, error)

    def _window(self) -> int:
        return self._marks[0] if self._marks else self.history.log_start

    async def serve_snapshots(self) -> None:
        """Answer snapshot requests, as one of the table's replicas, once there is a state; until
        cancelled.
        """
        while self.history.sequence == 0:
            await self._advanced.wait()

        async def deliver(message: Msg) -> None:
            self._requests.offer(message)  # whoever finds no room asks again

        subject = self._bus.subjects.snapshot(self._table)
        subscription = await self._bus.subscribe(subject, deliver, queue=self._table.owner)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(ANSWERING):
                    group.create_task(self._answer_requests())
        finally:
            await self._bus.unsubscribe(subscription)

    async def _answer_requests(self) -> None:
        decoder = msgspec.msgpack.Decoder(SnapshotRequest)
        while True:
            message = await self._requests.take()
            try:
                request = decoder.decode(message.data)
                await self._wait_for(request.at_least)
                await self._answer(message, request)
            except msgspec.DecodeError as error:
                log.warning("snapshot request on %s: %s", message.subject, error)
            except Unavailable as error:  # the subscriber asks again
                self.counters.failures += 1
                log.debug("an answer is lost: %s", error)

    async def _answer(self, message: Msg, request: SnapshotRequest) -> None:
        chunks = self._answers.answer(message.subject.rpartition(".")[2], request)
        for chunk in chunks:
            await self._bus.publish(message.reply, chunk)
        self.counters.answers += 1
        self.counters.answer_bytes += sum(map(len, chunks))

    async def _wait_for(self, sequence: int) -> None:
        try:
            async with asyncio.timeout(AT_LEAST_SECONDS):
                while self.history.sequence < sequence:
                    await self._advanced.wait()
        except TimeoutError:
            log.debug("%s is at %d, asked for %d", self._table.name, self.history.sequence, sequence)


def _trace(traceparent: str) -> dict[str, str] | None:
    return {TRACEPARENT: traceparent} if traceparent else None
