"""Connections to the bus: the first one, authentication, and pauses between attempts."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

from cilia.backoff import Backoff
from cilia.bus.client import Bus
from cilia.bus.config import BusConfig, authentication
from cilia.contracts.subjects import Subjects
from cilia.errors import Unavailable

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
PINGS: Final = 2
"""Pings without an answer, after which the server is taken to be gone."""


@asynccontextmanager
async def connect_bus(config: BusConfig, *, cluster: str, name: str) -> AsyncIterator[Bus]:
    """Connect as ``name``, which also names the client's inboxes: ``_INBOX.<name>.>``.

    Raises:
        Unavailable: No server accepted the client within ``config.connect_seconds``.
    """
    client = Client()
    bus = Bus(client, Subjects(cluster))
    try:
        async with asyncio.timeout(config.connect_seconds):
            await _connect(client, bus, config, name)
    except (TimeoutError, nats.errors.Error, OSError) as error:
        reason = str(client.last_error or error) or type(error).__name__
        await client.close()
        raise Unavailable("bus", f"no connection to {', '.join(config.urls)}: {reason}") from error
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def open_bus(config: BusConfig, *, cluster: str, name: str) -> AsyncIterator[Bus]:
    """Connect as :func:`connect_bus` does, but beside the block and for ever.

    Until it stands, requests and publications raise Unavailable, and subscriptions wait.
    """
    client = Client()
    bus = Bus(client, Subjects(cluster))
    connecting = asyncio.create_task(_connect_in_the_end(client, bus, config, name), name="first connection")
    try:
        yield bus
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        await bus.close()


async def _connect_in_the_end(client: Client, bus: Bus, config: BusConfig, name: str) -> None:
    backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    while True:
        try:
            await _connect(client, bus, config, name)
            return
        except (nats.errors.Error, OSError) as error:
            log.warning("no connection to the bus: %s", error or type(error).__name__)
        await backoff.pause()


async def _connect(client: Client, bus: Bus, config: BusConfig, name: str) -> None:
    await client.connect(
        list(config.urls),
        name=name,
        inbox_prefix=f"_INBOX.{name}",
        error_cb=bus.on_error,
        disconnected_cb=bus.on_disconnect,
        reconnected_cb=bus.on_reconnected,
        max_reconnect_attempts=-1,
        reconnect_time_wait=FIRST_PAUSE_SECONDS * 4,
        reconnect_to_server_handler=next_server,
        ping_interval=config.ping_seconds,
        max_outstanding_pings=PINGS,
        **authentication(config),
    )
    bus.on_connect()


def next_server(servers: list[Any], _info: object) -> tuple[Any, float]:
    """Choose the server that failed least; wait longer with each of its failures, with jitter."""
    server = min(servers, key=lambda each: (each.reconnects, random.random()))
    backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    backoff.failures = server.reconnects
    return server, backoff.next_seconds()
