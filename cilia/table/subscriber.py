"""The subscriber's loop: keeps shards of a table as the owner has them, and hands over what
changed.

Subscribe first, then ask for a snapshot; deltas that arrive in between are kept. Whatever is lost
on the way (by the server, by a broken connection, by the client library when we lag) shows as a gap
or in the next beacon.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Final, Generic, Literal, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from cilia.bus import Bus
from cilia.contracts.tables import Beacon, Delta, DeltaBatch, SnapshotChunk, Table
from cilia.errors import Unavailable
from cilia.metrics import counter
from cilia.table.resync import ResyncSchedule
from cilia.table.shard import Answer, Change
from cilia.table.shards import SubscribedShards
from cilia.table.wire import encode
from cilia.telemetry import TRACEPARENT

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

EVENTS: Final = 65_536
"""Messages that may wait for the loop; more are dropped, and found missing."""
EVENTS_AT_ONCE: Final = 512


class Every(Enum):
    """Interest in all shards of a table: ``TableSubscriber(bus, table, ALL)``."""

    ALL = auto()


ALL: Final = Every.ALL


@dataclass(slots=True)
class SubscriberCounters:
    """What a table's subscriber saw."""

    deltas: int = counter("deltas received")
    changes: int = counter("changes of shards handed over")
    requests: int = counter("snapshots asked for")
    rows: int = counter("rows received in answers")
    useless: int = counter("answers that were too old, or incomplete")
    dropped: int = counter("messages dropped since the loop lagged")
    ungathered: int = counter("acts whose shards did not all come in time to be handed over together")


@dataclass(slots=True)
class _Asked(Generic[K, V]):
    """A request under way and what has come of its answer."""

    shard: str
    parts: int = 0
    upserts: dict[K, V] = field(default_factory=dict)
    removes: list[K] = field(default_factory=list)


class TableSubscriber(Generic[K, V]):
    """Mirrors the shards of a table that its process is interested in.

    ``run`` goes to the supervisor.
    """

    def __init__(
        self,
        bus: Bus,
        table: Table[K, V],
        shards: Iterable[str] | Literal[Every.ALL] = (),
        *,
        holder: str = "",
        gather_seconds: float = 0.0,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a subscriber.

        Args:
            shards: Those of interest at the start.
            holder: The name under which the owner knows who holds which shards; empty: it doesn't.
            gather_seconds: See :meth:`changes`.
        """
        self._bus = bus
        self._holder = holder
        self._table = table
        self._clock = clock
        self._mirrors = SubscribedShards(table, every=shards is ALL)
        self._interest: set[str] = {"*"} if shards is ALL else set(shards)
        self._subscriptions: dict[str, Subscription] = {}
        self._asking = ResyncSchedule(random or Random())
        self._asked: dict[str, _Asked[K, V]] = {}
        self._requests = 0
        self._events: deque[tuple[Callable[[Msg], None], Msg]] = deque()
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._changes: dict[str, Change[K, V]] = {}
        self._some_changes = asyncio.Event()
        self._gather_seconds = gather_seconds
        self._heard = 0  # sequence of the newest beacon
        self._gathering_to = 0
        self._gathered = asyncio.Event()
        self._decode_delta = msgspec.msgpack.Decoder(Delta[table.key, table.row]).decode  # type: ignore[name-defined]
        self._decode_parcel = msgspec.msgpack.Decoder(DeltaBatch[table.key, table.row]).decode  # type: ignore[name-defined]
        self._decode_chunk = msgspec.msgpack.Decoder(SnapshotChunk[table.key, table.row]).decode  # type: ignore[name-defined]
        self._decode_beacon = msgspec.msgpack.Decoder(Beacon).decode
        self.counters = SubscriberCounters()

    # what others read

    @property
    def complete(self) -> bool:
        """Tell whether every shard of interest is known whole; only then may anything be pruned by
        it.
        """
        return self._interest <= ({"*"} | self._mirrors.shards.keys()) and self._mirrors.complete

    def shard_complete(self, shard: str) -> bool:
        """Tell whether one shard is known whole."""
        return self._mirrors.sequence(shard) > 0

    def sequence(self, shard: str) -> int:
        """Return the sequence up to which a shard is known; 0: not at all."""
        return self._mirrors.sequence(shard)

    def rows(self, shard: str) -> Mapping[K, V]:
        """Return a shard's rows; a live view, to read and not to keep."""
        mirror = self._mirrors.shards.get(shard)
        return mirror.rows if mirror is not None else {}

    @property
    def shards(self) -> Iterable[str]:
        """Shards that are mirrored."""
        return self._mirrors.shards.keys()

    async def wait_complete(self) -> None:
        """Wait until every shard of interest is whole; bound it with ``asyncio.timeout``."""
        await self._wait(lambda: self.complete)

    async def wait_sequence(self, shard: str, sequence: int) -> None:
        """Wait until a shard is known at ``sequence`` or later; bound it with ``asyncio.timeout``."""
        await self._wait(lambda: self.sequence(shard) >= sequence)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._moved.wait()

    async def changes(self) -> AsyncIterator[list[Change[K, V]]]:
        """Give what changed, in batches with one change per shard; for one reader.

        While the reader is busy, changes of a shard become one: what waits is bounded by the
        table's size. Shards that changed together are given together, for which ``gather_seconds``
        are waited at most.
        """
        while True:
            await self._some_changes.wait()
            await self._gather()
            self._some_changes.clear()
            changes, self._changes = self._changes, {}
            yield list(changes.values())

    async def _gather(self) -> None:
        if self._gather_seconds and self._gathering_to:
            try:
                async with asyncio.timeout(self._gather_seconds):
                    await self._gathered.wait()
            except TimeoutError:
                self.counters.ungathered += 1
                self._gathering_to = 0

    # what others ask for

    def add_shard(self, shard: str) -> None:
        """Take interest in a shard; it is complete once its snapshot has come."""
        self._interest.add(shard)
        self._wake.set()

    def drop_shard(self, shard: str) -> None:
        """Lose interest in a shard; its rows are handed over as removed."""
        self._interest.discard(shard)
        self._wake.set()

    # the loop, the only writer of the mirrors

    async def run(self) -> None:
        """Keep the mirrors up to date until cancelled."""
        self._bus.on_reconnect(self._on_reconnect)
        await self._bus.wait_connected()
        inbox = self._bus.new_inbox()
        subjects = self._bus.subjects
        fixed = [
            await self._bus.subscribe(f"{inbox}.*", self._deliver(self._on_chunk)),
            await self._bus.subscribe(subjects.beacon(self._table), self._deliver(self._on_beacon)),
        ]
        if self._holder:
            subject = subjects.parcel(self._table, self._holder)
            fixed.append(await self._bus.subscribe(subject, self._deliver(self._on_parcel)))
        try:
            while True:
                await self._follow_interest()
                self._take_events()
                await self._ask(inbox)
                await self._sleep()
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
        for name, asked in list(self._asked.items()):
            self._give_up(name, asked)
        self._mirrors.doubt()
        self._wake.set()

    async def _follow_interest(self) -> None:
        for shard in self._interest - self._subscriptions.keys():
            subject = self._bus.subjects.delta(self._table, shard)
            self._subscriptions[shard] = await self._bus.subscribe(subject, self._deliver(self._on_delta))
            if shard != "*":
                self._mirrors.add(shard)
        for shard in self._subscriptions.keys() - self._interest:
            await self._bus.unsubscribe(self._subscriptions.pop(shard))
            gone = self._mirrors.drop(shard)
            self._hand_over([gone] if gone is not None else [])

    def _take_events(self) -> None:
        self._wake.clear()
        for _ in range(min(len(self._events), EVENTS_AT_ONCE)):
            take, message = self._events.popleft()
            try:
                take(message)
            except msgspec.DecodeError as error:
                log.warning("message on %s: %s", message.subject, error)
        if self._events:
            self._wake.set()
        self._moved.set()
        self._moved = asyncio.Event()

    def _on_delta(self, message: Msg) -> None:
        self.counters.deltas += 1
        shard = message.subject.rpartition(".")[2]
        traceparent = (message.headers or {}).get(TRACEPARENT, "")
        delta = self._decode_delta(message.data)
        if delta.together and delta.sequence > self._heard:
            self._gathering_to = delta.sequence
            self._gathered.clear()
        self._hand_over(self._mirrors.feed_delta(shard, delta, traceparent))

    def _on_parcel(self, message: Msg) -> None:
        traceparent = (message.headers or {}).get(TRACEPARENT, "")
        for shard, delta in self._decode_parcel(message.data).deltas:
            self.counters.deltas += 1
            self._hand_over(self._mirrors.feed_delta(shard, delta, traceparent))

    def _on_beacon(self, message: Msg) -> None:
        beacon = self._decode_beacon(message.data)
        self._heard = beacon.sequence
        if self._heard >= self._gathering_to:
            self._gathering_to = 0
            self._gathered.set()
        self._mirrors.feed_beacon(beacon)

    def _on_chunk(self, message: Msg) -> None:
        name = message.subject.rpartition(".")[2]
        asked = self._asked.get(name)
        if asked is None:
            return
        if not message.data:  # the server: no responders
            self._give_up(name, asked)
            return
        chunk = self._decode_chunk(message.data)
        if chunk.part != asked.parts:
            self._give_up(name, asked)
            return
        asked.parts += 1
        asked.upserts.update(chunk.upserts)
        asked.removes.extend(chunk.removes)
        self.counters.rows += len(chunk.upserts)
        self._asking.progress(asked.shard, self._clock())
        if chunk.last:
            del self._asked[name]
            answer = Answer(chunk.epoch, chunk.sequence, chunk.since, asked.upserts, tuple(asked.removes))
            self._hand_over(self._mirrors.feed_answer(asked.shard, answer))
            if asked.shard in self._mirrors.needs():
                self.counters.useless += 1
                self._asking.fail(asked.shard, self._clock())

    def _give_up(self, name: str, asked: _Asked[K, V]) -> None:
        del self._asked[name]
        self.counters.useless += 1
        self._asking.fail(asked.shard, self._clock())

    def _hand_over(self, changes: Iterable[Change[K, V]]) -> None:
        for change in changes:
            waiting = self._changes.get(change.shard)
            self._changes[change.shard] = waiting.then(change) if waiting is not None else change
            self.counters.changes += 1
            self._some_changes.set()

    async def _ask(self, inbox: str) -> None:
        if not self._bus.connected:
            return
        for shard in self._asking.choose(self._mirrors.needs(), self._clock()):
            self._requests += 1
            name = str(self._requests)
            for old in [old for old, asked in self._asked.items() if asked.shard == shard]:
                del self._asked[old]
            self._asked[name] = _Asked(shard)
            payload = encode(self._mirrors.request(shard))
            subject = self._bus.subjects.snapshot(self._table, shard)
            try:
                await self._bus.publish(subject, payload, reply=f"{inbox}.{name}")
                self.counters.requests += 1
            except Unavailable as error:
                log.debug("can't ask for %s: %s", subject, error)

    async def _sleep(self) -> None:
        if self._wake.is_set():
            await asyncio.sleep(0)
            return
        at = self._asking.next_time() if self._bus.connected else None
        try:
            async with asyncio.timeout(None if at is None else max(0.001, at - self._clock())):
                await self._wake.wait()
        except TimeoutError:
            return
