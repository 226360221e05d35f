from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cilia.kvstore import Etcd, EtcdConfig, connect_kvstore
from laboratory.servers import Server, start_etcd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with start_etcd(tmp_path) as server:
        yield server


@pytest.fixture
async def etcd(server: Server) -> AsyncIterator[Etcd]:
    async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
        yield etcd
