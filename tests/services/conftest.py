"""A real etcd and a real broker for each test module's services, and a connection to ask them by."""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cilia.bus import BusConfig, connect_bus
from cilia.kvstore import EtcdConfig, connect_kvstore
from laboratory.servers import start_etcd, start_nats
from laboratory.services import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Servers of this test alone; services are started by the test."""
    cluster = f"t{os.getpid()}{secrets.token_hex(2)}"
    with start_etcd(tmp_path) as etcd, start_nats(tmp_path) as nats:
        async with (
            connect_bus(BusConfig(urls=(nats.url,)), cluster=cluster, name="test") as bus,
            connect_kvstore(EtcdConfig(endpoints=(etcd.address,))) as kvstore,
        ):
            yield Stage(cluster, etcd, nats, tmp_path, bus, kvstore)
