"""Clusters of two nodes and an external host, one for each routing mode."""

from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from laboratory.pool import Configuration
from tests.cluster.routing.peers import Peers, make_peers


@pytest.fixture(scope="module", params=["overlay", "native"])
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return Configuration(nodes=2, external_host=True, routing=request.param)


@pytest.fixture(scope="module")
def shared(shared_cluster: LocalCluster) -> LocalCluster:
    return shared_cluster


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
