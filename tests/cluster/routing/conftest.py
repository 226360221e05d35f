"""Clusters of two nodes and an external host, one for each routing mode."""

import os
from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from tests.cluster.routing.peers import Peers, make_peers


@pytest.fixture(scope="module", params=["overlay", "native"])
def shared(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    settings = {"routing": request.param}
    cluster = LocalCluster.up(
        f"rt{request.param[0]}-{os.getpid()}", nodes=2, external_host=True, agent_settings=settings
    )
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def shared_peers(shared: LocalCluster) -> Peers:
    return make_peers(shared)


@pytest.fixture
def peers(shared: LocalCluster, shared_peers: Peers) -> Iterator[Peers]:
    yield shared_peers
    Policies(shared).delete_all()


@pytest.fixture
def policies(shared: LocalCluster) -> Policies:
    return Policies(shared)
