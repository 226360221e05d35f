"""Answers to snapshot requests: a loop of every replica, bounded, once there is a state."""

import asyncio
import logging
from typing import Final, Generic, TypeVar

import msgspec
from nats.aio.msg import Msg

from cilia.bus import Bus
from cilia.contracts.distribution import SnapshotRequest
from cilia.errors import Unavailable
from cilia.mailbox import Inbox
from cilia.notify import Broadcast
from cilia.table.changelog import Changelog
from cilia.table.counters import PublisherCounters
from cilia.table.snapshots import Snapshots

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

AT_LEAST_SECONDS: Final = 1.0
"""Time that a replica is given to reach the sequence that a request names."""
CONCURRENCY: Final = 16
"""Requests that are answered at once."""
PENDING: Final = 1024
"""Requests that are kept for that."""


class SnapshotServer(Generic[K, V]):
    """Server of one table's snapshots.

    Args:
        advanced: Notified when the changelog's sequence has moved.
    """

    def __init__(self, bus: Bus, changelog: Changelog[K, V], advanced: Broadcast, counters: PublisherCounters) -> None:
        self._bus = bus
        self._changelog = changelog
        self._advanced = advanced
        self._counters = counters
        self._snapshots = Snapshots(changelog)
        self._requests: Inbox[Msg] = Inbox(PENDING)

    async def serve(self) -> None:
        """Answer requests, as one of the table's replicas, once it has a state; until cancelled."""
        await self._advanced.wait_until(lambda: self._changelog.sequence > 0)

        async def deliver(message: Msg) -> None:
            self._requests.offer(message)  # whoever finds no room asks again

        table = self._changelog.table
        subscription = await self._bus.subscribe(self._bus.subjects.snapshot(table), deliver, queue=table.owner)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
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
                self._counters.failures += 1
                log.debug("an answer is lost: %s", error)

    async def _answer(self, message: Msg, request: SnapshotRequest) -> None:
        chunks = self._snapshots.answer(message.subject.rpartition(".")[2], request)
        for chunk in chunks:
            await self._bus.publish(message.reply, chunk)
        self._counters.answers += 1
        self._counters.answer_bytes += sum(map(len, chunks))

    async def _wait_for(self, sequence: int) -> None:
        changelog = self._changelog
        try:
            async with asyncio.timeout(AT_LEAST_SECONDS):
                await self._advanced.wait_until(lambda: changelog.sequence >= sequence)
        except TimeoutError:
            log.debug("%s is at %d, asked for %d", changelog.table.name, changelog.sequence, sequence)
