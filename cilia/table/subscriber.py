"""Subscription to a table: a loop that keeps shards as the owner has them, and tells what changed.

Subscribe first, then request a snapshot; deltas that arrive in between are kept. Whatever is lost
on the way (by the server, by a broken connection, by the client library when we lag) shows as a gap
or in the next beacon.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from enum import Enum, auto
from random import Random
from typing import Final, Generic, Literal, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from cilia.bus import Bus
from cilia.contracts.distribution import Beacon, Delta, DeltaBatch, SnapshotChunk
from cilia.contracts.tables import Table
from cilia.errors import Unavailable
from cilia.notify import Broadcast, Wakeup
from cilia.table.changes import PendingChanges
from cilia.table.counters import SubscriberCounters
from cilia.table.shard import Change
from cilia.table.shards import SubscribedShards
from cilia.table.snapshot_requests import SnapshotRequests
from cilia.table.wire import encode
from cilia.telemetry import TRACEPARENT

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

EVENTS: Final = 65_536
"""Messages pending for the loop, at most; more are dropped, and found missing."""
EVENTS_AT_ONCE: Final = 512


class Every(Enum):
    """Interest in all shards of a table: ``TableSubscriber(bus, table, ALL)``."""

    ALL = auto()


ALL: Final = Every.ALL


class TableSubscriber(Generic[K, V]):
    """Replica of the shards of a table that its process is interested in.

    ``run`` goes to the supervisor.
    """

    def __init__(
        self,
        bus: Bus,
        table: Table[K, V],
        shards: Iterable[str] | Literal[Every.ALL] = (),
        *,
        name: str = "",
        assembly_seconds: float = 0.0,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a subscriber.

        Args:
            shards: Those of interest at the start.
            name: Name by which the owner knows which shards it holds; empty: the owner doesn't.
            assembly_seconds: See :meth:`changes`.
        """
        self._bus = bus
        self._name = name
        self._table = table
        self._clock = clock
        self._shards = SubscribedShards(table, every=shards is ALL)
        self._interest: set[str] = {"*"} if shards is ALL else set(shards)
        self._subscriptions: dict[str, Subscription] = {}
        self._events: deque[tuple[Callable[[Msg], None], Msg]] = deque()
        self._wake = Wakeup()
        self._advanced = Broadcast()
        self.counters = SubscriberCounters()
        self._requests = SnapshotRequests[K, V](random or Random(), self.counters)
        self._changes = PendingChanges[K, V](assembly_seconds, self.counters)
        self._decode_delta = msgspec.msgpack.Decoder(Delta[table.key, table.row]).decode  # type: ignore[name-defined]
        self._decode_batch = msgspec.msgpack.Decoder(DeltaBatch[table.key, table.row]).decode  # type: ignore[name-defined]
        self._decode_chunk = msgspec.msgpack.Decoder(SnapshotChunk[table.key, table.row]).decode  # type: ignore[name-defined]
        self._decode_beacon = msgspec.msgpack.Decoder(Beacon).decode

    # state for readers

    @property
    def complete(self) -> bool:
        """Tell whether every shard of interest is known whole, so that others may prune by it."""
        return self._interest <= ({"*"} | self._shards.shards.keys()) and self._shards.complete

    def shard_complete(self, shard: str) -> bool:
        """Tell whether one shard is known whole."""
        return self._shards.sequence(shard) > 0

    def sequence(self, shard: str) -> int:
        """Return the sequence up to which a shard is known; 0: not at all."""
        return self._shards.sequence(shard)

    def rows(self, shard: str) -> Mapping[K, V]:
        """Return a shard's rows; a live view, to read and not to keep."""
        known = self._shards.shards.get(shard)
        return known.rows if known is not None else {}

    @property
    def shards(self) -> Iterable[str]:
        """Shards that are known, whole or not."""
        return self._shards.shards.keys()

    async def wait_complete(self) -> None:
        """Wait until every shard of interest is whole; bound it with ``asyncio.timeout``."""
        await self._advanced.wait_until(lambda: self.complete)

    async def wait_sequence(self, shard: str, sequence: int) -> None:
        """Wait until a shard is known at ``sequence`` or later; bound it likewise."""
        await self._advanced.wait_until(lambda: self.sequence(shard) >= sequence)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds`` does, looking again as shards advance; bound it likewise."""
        await self._advanced.wait_until(holds)

    async def changes(self) -> AsyncIterator[list[Change[K, V]]]:
        """Give what changed, in batches with one change per shard; for one reader.

        Shards that one transaction changed are given at once; they are kept back until the last of
        them has come, ``assembly_seconds`` at most.
        """
        while True:
            yield await self._changes.take()

    # requests of readers

    def add_shard(self, shard: str) -> None:
        """Take interest in a shard; it is complete once its snapshot has come."""
        self._interest.add(shard)
        self._wake.set()

    def drop_shard(self, shard: str) -> None:
        """Lose interest in a shard; its rows are given as removed."""
        self._interest.discard(shard)
        self._wake.set()

    # the loop, the only writer of the shards

    async def run(self) -> None:
        """Keep the shards up to date until cancelled."""
        self._bus.on_reconnect(self._on_reconnect)
        await self._bus.wait_connected()
        inbox = self._bus.new_inbox()
        subjects = self._bus.subjects
        fixed = [
            await self._bus.subscribe(f"{inbox}.*", self._deliver(self._on_chunk)),
            await self._bus.subscribe(subjects.beacon(self._table), self._deliver(self._on_beacon)),
        ]
        if self._name:
            subject = subjects.delta_batch(self._table, self._name)
            fixed.append(await self._bus.subscribe(subject, self._deliver(self._on_delta_batch)))
        try:
            while True:
                await self._follow_interest()
                self._take_events()
                await self._request_snapshots(inbox)
                if self._wake.is_set:
                    await asyncio.sleep(0)  # a busy table leaves others their turn
                await self._wake.wait(self._seconds_to_next_request())
        finally:
            for subscription in (*fixed, *self._subscriptions.values()):
                await self._bus.unsubscribe(subscription)

    def _deliver(self, take: Callable[[Msg], None]) -> Callable[[Msg], Awaitable[None]]:
        async def deliver(message: Msg) -> None:
            if len(self._events) >= EVENTS:
                self.counters.dropped += 1
                return
            self._events.append((take, message))
            self._wake.set()

        return deliver

    def _on_reconnect(self) -> None:
        self._requests.fail_all(self._clock())
        self._shards.suspect_loss()
        self._wake.set()

    async def _follow_interest(self) -> None:
        for shard in self._interest - self._subscriptions.keys():
            subject = self._bus.subjects.delta(self._table, shard)
            self._subscriptions[shard] = await self._bus.subscribe(subject, self._deliver(self._on_delta))
            if shard != "*":
                self._shards.add(shard)
        for shard in self._subscriptions.keys() - self._interest:
            await self._bus.unsubscribe(self._subscriptions.pop(shard))
            gone = self._shards.drop(shard)
            self._changes.put([gone] if gone is not None else [])

    def _take_events(self) -> None:
        for _ in range(min(len(self._events), EVENTS_AT_ONCE)):
            take, message = self._events.popleft()
            try:
                take(message)
            except msgspec.DecodeError as error:
                log.warning("message on %s: %s", message.subject, error)
        if self._events:
            self._wake.set()
        self._advanced.notify()

    def _on_delta(self, message: Msg) -> None:
        self.counters.deltas += 1
        delta = self._decode_delta(message.data)
        if delta.together:
            self._changes.expect_others(delta.sequence)
        self._changes.put(self._shards.feed_delta(_last_token(message), delta, _traceparent(message)))

    def _on_delta_batch(self, message: Msg) -> None:
        traceparent = _traceparent(message)
        for shard, delta in self._decode_batch(message.data).deltas:
            self.counters.deltas += 1
            self._changes.put(self._shards.feed_delta(shard, delta, traceparent))

    def _on_beacon(self, message: Msg) -> None:
        beacon = self._decode_beacon(message.data)
        self._changes.reach(beacon.sequence)
        self._shards.feed_beacon(beacon)

    def _on_chunk(self, message: Msg) -> None:
        name, now = _last_token(message), self._clock()
        if not message.data:  # the server: no responders
            self._requests.fail(name, now)
            return
        taken = self._requests.take(name, self._decode_chunk(message.data), now)
        if taken is not None:
            shard, snapshot = taken
            self._changes.put(self._shards.feed_snapshot(shard, snapshot))
            if shard in self._shards.stale():
                self._requests.note_useless(shard, now)

    async def _request_snapshots(self, inbox: str) -> None:
        if not self._bus.connected:
            return
        for name, shard in self._requests.begin(self._shards.stale(), self._clock()):
            subject = self._bus.subjects.snapshot(self._table, shard)
            try:
                await self._bus.publish(subject, encode(self._shards.request(shard)), reply=f"{inbox}.{name}")
                self.counters.requests += 1
            except Unavailable as error:
                log.debug("can't request %s: %s", subject, error)

    def _seconds_to_next_request(self) -> float | None:
        at = self._requests.next_time() if self._bus.connected else None
        return None if at is None else max(0.001, at - self._clock())


def _last_token(message: Msg) -> str:
    return str(message.subject.rpartition(".")[2])


def _traceparent(message: Msg) -> str:
    return str((message.headers or {}).get(TRACEPARENT, ""))
