"""A cluster of three nodes that the tests of a module share; every test begins without pods and
policies.
"""

import os
from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[LocalCluster]:
    cluster = LocalCluster.up(f"test-{os.getpid()}", nodes=3)
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def cluster(shared_cluster: LocalCluster) -> Iterator[LocalCluster]:
    yield shared_cluster
    while shared_cluster.pods:
        shared_cluster.pods.pop().delete()
    Policies(shared_cluster).delete_all()


@pytest.fixture
def policies(cluster: LocalCluster) -> Policies:
    return Policies(cluster)
