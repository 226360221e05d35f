"""A loaded data plane for all tests of a module, and one that is as good as new for each."""

from collections.abc import Iterator

import pytest

from cilia.abi.codec import K, V
from cilia.datapath.maps import Map
from tests.bpf.datapath.rig import Node, node, populate


@pytest.fixture(scope="module")
def loaded() -> Iterator[Node]:
    with node() as made:
        yield made


@pytest.fixture
def here(loaded: Node) -> Node:
    """Emptied: pods A and B are known and nobody is allowed anything."""
    empty(loaded.flows)
    empty(loaded.policy)
    empty(loaded.endpoints)
    empty(loaded.ipcache)
    for slot in range(8):
        for offset in (0, 8, 16):
            loaded.subjects.store_u64(slot, 0, offset)
    loaded.epoch.store_u32(0, 0)
    while loaded.events():
        pass
    populate(loaded)
    return loaded


def empty(table: Map[K, V]) -> None:
    table.delete_many(list(table.keys()))
