"""Publication of a table by its owner: deltas and beacons while its replica leads.

A delta leaves at once when the line is idle; while a batch is being sent and flushed, changes
gather for the next. Snapshots are answered by every replica (cilia.table.snapshot_server).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from cilia.bus import Bus
from cilia.contracts.tables import Table
from cilia.errors import Unavailable
from cilia.lifecycle import Loop
from cilia.notify import Broadcast, Wakeup
from cilia.table.batches import Packed, SubscribersOf, pack
from cilia.table.beacons import BEACON_GAP_SECONDS, BeaconSchedule
from cilia.table.changelog import LOG_LIMIT, Changelog
from cilia.table.counters import PublisherCounters
from cilia.table.snapshot_server import SnapshotServer
from cilia.table.wire import encode, encode_delta
from cilia.telemetry import TRACEPARENT

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")


class TablePublisher(Generic[K, V]):
    """Publisher of one table.

    ``reset`` and ``commit`` are called by the one loop of the service that follows the kvstore,
    ``lead`` and ``follow`` by its election; ``loops`` go to the supervisor.
    """

    def __init__(
        self,
        bus: Bus,
        table: Table[K, V],
        *,
        computed: Mapping[str, Mapping[K, V]] | None = None,
        subscribers_of: SubscribersOf | None = None,
        pause_seconds: float = 0.0,
        log_limit: int = LOG_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a publisher.

        Args:
            computed: See :class:`Changelog`.
            subscribers_of: Subscribers known to hold a shard, who may get its deltas by name.
            pause_seconds: Time in which changes gather before they leave, so that tables that
                matter more go first.
        """
        self._bus = bus
        self._table = table
        self._subscribers_of = subscribers_of
        self._pause_seconds = pause_seconds
        self._clock = clock
        self.changelog = Changelog(table, computed=computed, log_limit=log_limit)
        self.counters = PublisherCounters()
        self._pending = Wakeup()
        self._advanced = Broadcast()
        self._beacon_due = Wakeup()
        self._beacons = BeaconSchedule()
        self._snapshots = SnapshotServer(bus, self.changelog, self._advanced, self.counters)
        bus.on_reconnect(self._beacon_due.set)

    def reset(self, rows: Mapping[K, V], sequence: int, epoch: int) -> None:
        """Take over the whole table as of ``sequence``; see :meth:`Changelog.reset`."""
        self.changelog.reset(rows, sequence, epoch)
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
        self.changelog.commit(sequence, upserts, removes, traceparent=traceparent, together=together)
        self._notify()
        if announce and not self.changelog.has_pending:
            self._beacon_due.set()

    def _notify(self) -> None:
        if self.changelog.has_pending:
            self._pending.set()
        self._advanced.notify()

    def lead(self) -> None:
        """Begin to publish, with all recent changes: the leader before may not have sent them."""
        if not self.changelog.leading:
            self.changelog.lead(self._window())
            self._notify()
            self._beacon_due.set()

    def follow(self) -> None:
        """Leave publishing to another replica."""
        self.changelog.follow()

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    def loops(self) -> dict[str, Loop]:
        """Return the loops to supervise, named after the table."""
        name = self._table.name
        return {
            f"{name}.snapshots": self._snapshots.serve,
            f"{name}.deltas": self.publish,
            f"{name}.beacon": self.beacon,
        }

    async def publish(self) -> None:
        """Publish pending deltas while leading, until cancelled."""
        while True:
            await self._pending.wait()
            if self._pause_seconds:
                await asyncio.sleep(self._pause_seconds)
            await self._bus.wait_connected()
            try:
                await self._publish_batch()
            except Unavailable as error:  # the beacon tells subscribers what they missed
                self.counters.failures += 1
                log.warning("deltas of %s may be lost: %s", self._table.name, error)

    async def _publish_batch(self) -> None:
        outgoing = self.changelog.take_pending()
        packed = pack(outgoing, self._subscribers_of) if self._subscribers_of else Packed((), outgoing)
        for batch in packed.batches:
            subject = self._bus.subjects.delta_batch(self._table, batch.subscriber)
            await self._bus.publish(subject, batch.payload, headers=_trace(batch.traceparent))
        for each in packed.deltas:
            subject = self._bus.subjects.delta(self._table, each.shard)
            for payload in encode_delta(each.delta):
                await self._bus.publish(subject, payload, headers=_trace(each.traceparent))
        if any(each.delta.together for each in packed.deltas):
            await self._send_beacon(self._window())
        if outgoing:
            await self._bus.flush()
            self.counters.deltas += len(outgoing)
            self.counters.delta_batches += len(packed.batches)
            self.counters.batches += 1
            self._beacon_due.set()

    async def beacon(self) -> None:
        """Publish a beacon each second and after batches while leading, until cancelled."""
        while True:
            asked_for = await self._beacon_due.wait(self._beacons.seconds_left(self._clock()))
            now, changelog = self._clock(), self.changelog
            since = None
            if self._beacons.is_regular(now, asked_for=asked_for):
                since = self._beacons.begin_interval(now, changelog.sequence, changelog.log_start)
                changelog.prune()
            if changelog.leading and changelog.sequence and self._bus.connected:
                last = self._beacons.since_last(changelog.sequence)
                await self._send_beacon(last if since is None else since)
            await asyncio.sleep(BEACON_GAP_SECONDS)

    async def _send_beacon(self, since: int) -> None:
        payload = encode(self.changelog.beacon(since))
        try:
            await self._bus.publish(self._bus.subjects.beacon(self._table), payload)
            self.counters.beacons += 1
        except Unavailable as error:  # the next second has another
            self.counters.failures += 1
            log.debug("no beacon of %s: %s", self._table.name, error)

    def _window(self) -> int:
        return self._beacons.window(self.changelog.log_start)


def _trace(traceparent: str) -> dict[str, str] | None:
    return {TRACEPARENT: traceparent} if traceparent else None
