"""Pool of clusters: which is lent again, which is not, and which makes room."""

import pytest

from laboratory import pool
from laboratory.cluster import LocalCluster
from laboratory.layout import Layout
from laboratory.pool import MOST_RUNNING, ClusterPool, Configuration
from laboratory.state import ClusterState


class FakeCluster(LocalCluster):
    """Cluster that only remembers whether it runs."""

    def __init__(self, name: str, configuration: Configuration) -> None:
        super().__init__(ClusterState(name, "", Layout(name).hub, "", ()))
        self.configuration = configuration
        self.fit = True
        self.runs = True

    def down(self) -> None:
        self.runs = False


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeCluster]:
    monkeypatch.setattr(pool, "clear", lambda cluster: cluster.fit)
    return []


@pytest.fixture
def clusters(started: list[FakeCluster]) -> ClusterPool:
    def start(name: str, configuration: Configuration) -> LocalCluster:
        started.append(FakeCluster(name, configuration))
        return started[-1]

    return ClusterPool(start)


ONE, TWO, THREE = (Configuration(nodes=number) for number in (1, 2, 3))


def lend(clusters: ClusterPool, *configurations: Configuration, alters_cluster: bool = False) -> None:
    for configuration in configurations:
        with clusters.lend(configuration, alters_cluster=alters_cluster):
            pass


def test_a_cluster_is_lent_again_by_its_configuration(clusters: ClusterPool, started: list[FakeCluster]) -> None:
    lend(clusters, ONE, TWO, ONE, TWO)
    assert [each.configuration for each in started] == [ONE, TWO]
    assert all(each.runs for each in started)


def test_a_cluster_that_was_altered_ends_with_who_altered_it(clusters: ClusterPool, started: list[FakeCluster]) -> None:
    lend(clusters, ONE)
    lend(clusters, ONE, alters_cluster=True)
    assert [each.runs for each in started] == [False]
    lend(clusters, ONE)
    assert [each.runs for each in started] == [False, True]


def test_a_cluster_that_is_not_as_it_was_is_not_lent_again(clusters: ClusterPool, started: list[FakeCluster]) -> None:
    with clusters.lend(ONE):
        started[0].fit = False
    lend(clusters, ONE)
    assert [each.runs for each in started] == [False, True]


def test_a_cluster_under_which_a_test_failed_is_not_lent_again(
    clusters: ClusterPool, started: list[FakeCluster]
) -> None:
    with pytest.raises(KeyboardInterrupt), clusters.lend(ONE):
        raise KeyboardInterrupt
    assert [each.runs for each in started] == [False]


def test_the_cluster_used_longest_ago_makes_room(clusters: ClusterPool, started: list[FakeCluster]) -> None:
    lend(clusters, ONE, TWO, ONE, THREE)
    assert {each.configuration: each.runs for each in started} == {ONE: True, TWO: False, THREE: True}
    assert sum(each.runs for each in started) == MOST_RUNNING


def test_all_end_with_the_pool(clusters: ClusterPool, started: list[FakeCluster]) -> None:
    lend(clusters, ONE, TWO)
    clusters.close()
    assert not any(each.runs for each in started)
