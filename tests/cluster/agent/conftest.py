"""One node for each test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.agent.node import Node, running_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces and eBPF")
    async with running_node(tmp_path) as node:
        yield node
