"""A loaded data plane for all tests of a module, and one that is as good as new for each."""

from collections.abc import Iterator

import pytest

from tests.bpf.datapath.rig import Node, node, populate, reset


@pytest.fixture(scope="module")
def loaded() -> Iterator[Node]:
    with node() as made:
        yield made


@pytest.fixture
def here(loaded: Node) -> Node:
    """Emptied: pods A and B are known and nobody is allowed anything."""
    reset(loaded)
    populate(loaded)
    return loaded
