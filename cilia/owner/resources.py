"""Connections of a replica, opened first and closed last: its loops may still flush."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import SIGINT, SIGTERM

from cilia.bus import Bus, connect_bus
from cilia.kvstore import Etcd, connect_kvstore
from cilia.lifecycle import stop_on_signals
from cilia.owner.config import OwnerConfig


@dataclass(frozen=True, slots=True)
class Resources:
    """Connections, settings, and the event that tells the replica to stop."""

    service: str
    config: OwnerConfig
    stop: asyncio.Event
    bus: Bus
    etcd: Etcd


@asynccontextmanager
async def open_resources(service: str, config: OwnerConfig) -> AsyncIterator[Resources]:
    """Connect to the bus and to etcd.

    Raises:
        Unavailable: One of them doesn't answer.
    """
    async with (
        stop_on_signals(SIGTERM, SIGINT) as stop,
        connect_bus(config.nats, cluster=config.cluster, name=f"{service}-{config.replica}") as bus,
        connect_kvstore(config.etcd) as etcd,
    ):
        yield Resources(service, config, stop, bus, etcd)
