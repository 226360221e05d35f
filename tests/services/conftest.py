"""A real etcd and a real broker for all tests here, and a cluster of its own for each."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cilia.bus import BusConfig, connect_bus
from cilia.kvstore import EtcdConfig, connect_kvstore
from laboratory.servers import Server, start_etcd, start_nats
from laboratory.services import Stage


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    directory = tmp_path_factory.mktemp("servers")
    with start_etcd(directory) as etcd, start_nats(directory) as nats:
        yield etcd, nats


@pytest.fixture
async def stage(servers: tuple[Server, Server], tmp_path: Path) -> AsyncIterator[Stage]:
    """A cluster of this test alone; services are started by the test."""
    cluster = f"t{os.getpid()}{secrets.token_hex(4)}"
    etcd, nats = servers
    for server in servers:
        if not server.running:  # a test that failed left it so
            server.start()
    async with (
        connect_bus(BusConfig(urls=(nats.url,)), cluster=cluster, name="test") as bus,
        connect_kvstore(EtcdConfig(endpoints=(etcd.address,))) as kvstore,
    ):
        yield Stage(cluster, etcd, nats, tmp_path, bus, kvstore)
