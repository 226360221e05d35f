"""Clusters that test modules share; every test begins without pods and policies.

A module that sets ``ALTERS_CLUSTER`` changes more than these, and its cluster ends with it.
"""

from collections.abc import Iterator

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from laboratory.pool import ClusterPool, Configuration, clear


@pytest.fixture(scope="session")
def cluster_pool() -> Iterator[ClusterPool]:
    pool = ClusterPool()
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    """Return the configuration of a module's cluster; modules have their own."""
    return Configuration()


@pytest.fixture(scope="module")
def shared_cluster(
    cluster_pool: ClusterPool, configuration: Configuration, request: pytest.FixtureRequest
) -> Iterator[LocalCluster]:
    alters_cluster = getattr(request.module, "ALTERS_CLUSTER", False)
    with cluster_pool.lend(configuration, alters_cluster=alters_cluster) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: LocalCluster) -> Iterator[LocalCluster]:
    yield shared_cluster
    clear(shared_cluster)


@pytest.fixture
def policies(cluster: LocalCluster) -> Policies:
    return Policies(cluster)
