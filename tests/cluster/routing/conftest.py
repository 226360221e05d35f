"""A cluster of two nodes and a world in each routing mode, which the tests of a module share."""

import os
from collections.abc import Iterator

import pytest

from laboratory.local import LocalCluster
from tests.cluster.policies import Policies
from tests.cluster.routing.places import Places, make_places


@pytest.fixture(scope="module", params=["overlay", "native"])
def shared(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    settings = {"routing": request.param}
    cluster = LocalCluster.up(f"rt{request.param[0]}-{os.getpid()}", nodes=2, world=True, agent_settings=settings)
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def shared_places(shared: LocalCluster) -> Places:
    return make_places(shared)


@pytest.fixture
def places(shared: LocalCluster, shared_places: Places) -> Iterator[Places]:
    yield shared_places
    Policies(shared).delete_all()


@pytest.fixture
def policies(shared: LocalCluster) -> Policies:
    return Policies(shared)
