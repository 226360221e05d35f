from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cilia.kvstore import Etcd, KvstoreConfig, connect_kvstore
from tests.servers import Server, start_etcd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with start_etcd(tmp_path) as server:
        yield server


@pytest.fixture
async def etcd(server: Server) -> AsyncIterator[Etcd]:
    async with connect_kvstore(KvstoreConfig(endpoints=(server.address,))) as etcd:
        yield etcd
