"""Watch of a prefix, through every death of etcd, without losing an event.

A stream that broke is resumed at the revision after the last *event*. The header's revision is no
place to resume from: while a watch catches up it runs ahead of the events (a client that resumed
there lost 5,000 of 6,000). Only a progress notification, which has no events, says that everything
up to the header's revision was delivered.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from cilia.backoff import Backoff
from cilia.errors import Unavailable
from cilia.kvstore.channel import Channel, is_stale_token
from cilia.kvstore.errors import Compacted
from cilia.kvstore.operations import Event, Record, prefix_end
from cilia.kvstore.schema import message

log = logging.getLogger(__name__)

_DELETE: Final = 1  # mvccpb.Event.EventType
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """All events after the batch before, up to and with those of ``revision``."""

    revision: int
    events: tuple[Event, ...]


async def watch(channel: Channel, prefix: str, start: int) -> AsyncGenerator[Batch, None]:
    """Yield what happens below ``prefix`` from revision ``start`` on, for ever; a batch without
    events is progress.

    Raises:
        Compacted: The revision to go on from is no longer kept: read everything again.
        KvstoreRefused, NotAuthorised: etcd will not have it.
    """
    backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    while True:
        token = channel.token
        try:
            async with _open(channel, prefix, start) as stream, aclosing(_batches(stream, start)) as batches:
                async for batch in batches:
                    start = batch.revision + 1
                    backoff.reset()
                    yield batch
        except (grpc.aio.AioRpcError, Unavailable) as error:
            failure = channel.translate(error, "Watch") if isinstance(error, grpc.aio.AioRpcError) else error
            if not isinstance(failure, Unavailable):
                raise failure from error
            log.debug("watch of %s resumes at revision %d: %s", prefix, start, failure)
        except _Cancelled as cancelled:
            if not (token and is_stale_token(cancelled.reason)):
                raise channel.refusal("Watch", "CANCELLED", cancelled.reason) from None
            await _renew(channel, token)
        await backoff.pause()


class _Cancelled(Exception):
    """etcd ended the watch, for ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def _renew(channel: Channel, token: str) -> None:
    try:
        await channel.authenticate(token)
    except Unavailable as error:
        log.debug("the watch's token is renewed later: %s", error)


@asynccontextmanager
async def _open(channel: Channel, prefix: str, start: int) -> AsyncIterator[Any]:
    """Open a stream with one watch on it, on an endpoint that confirms it in time."""
    endpoint, stream = channel.open_stream("Watch/Watch", "WatchRequest", "WatchResponse")
    create = message("WatchCreateRequest")(
        key=prefix.encode(), range_end=prefix_end(prefix), start_revision=start, progress_notify=True, fragment=True
    )
    try:
        async with asyncio.timeout(channel.timeout_seconds):
            await stream.write(message("WatchRequest")(create_request=create))
            _check(await stream.read(), start)
        yield stream
    except grpc.aio.AioRpcError:
        channel.leave_endpoint(endpoint)
        raise
    except TimeoutError:
        channel.leave_endpoint(endpoint)
        raise Unavailable(channel.who, f"the watch was not confirmed within {channel.timeout_seconds:g} s") from None
    finally:
        stream.cancel()


async def _batches(stream: Any, start: int) -> AsyncGenerator[Batch, None]:
    fragments: list[Any] = []
    while True:
        response = await stream.read()
        _check(response, start)
        fragments.extend(response.events)
        if response.fragment:
            continue
        events = tuple(Event(Record.read(event.kv), event.type == _DELETE) for event in fragments)
        fragments.clear()
        revision = events[-1].revision if events else response.header.revision
        if revision >= start:
            yield Batch(revision, events)


def _check(response: Any, start: int) -> None:
    if response is grpc.aio.EOF:
        raise Unavailable("etcd", "the watch ended")
    if response.canceled:
        if response.compact_revision:
            raise Compacted(start, response.compact_revision)
        if "leader" in response.cancel_reason:
            raise Unavailable("etcd", response.cancel_reason)
        raise _Cancelled(response.cancel_reason)
