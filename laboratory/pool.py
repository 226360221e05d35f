"""Pool of local clusters that test modules lend one after the other: starting one takes seconds."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies

MOST_RUNNING = 2


@dataclass(frozen=True, slots=True)
class Configuration:
    """Configuration by which modules share a cluster."""

    nodes: int = 3
    replicas: int = 1
    external_host: bool = False
    routing: str = "overlay"
    flows: int = 0
    """Capacity of each family's map of flows; 0: from memory."""


class ClusterPool:
    """Running clusters, one for each configuration; those used longest ago make room."""

    def __init__(self, start: Callable[[str, Configuration], LocalCluster] | None = None) -> None:
        self._start_cluster = start or start_cluster
        self._numbers = count(1)
        self._running: dict[Configuration, LocalCluster] = {}

    @contextmanager
    def lend(self, configuration: Configuration, *, alters_cluster: bool = False) -> Iterator[LocalCluster]:
        """Have a cluster without pods and policies for the block.

        Args:
            alters_cluster: More than pods and policies will not be as it was, so nobody gets the
                cluster afterwards.
        """
        cluster = self._running.pop(configuration, None) or self._start(configuration)
        self._running[configuration] = cluster
        try:
            yield cluster
            fit = not alters_cluster and clear(cluster)
        except BaseException:
            fit = False
            raise
        finally:
            if not fit:
                self._running.pop(configuration).down()

    def close(self) -> None:
        """End all clusters."""
        while self._running:
            self._running.popitem()[1].down()

    def _start(self, configuration: Configuration) -> LocalCluster:
        while len(self._running) >= MOST_RUNNING:
            self._running.pop(next(iter(self._running))).down()
        return self._start_cluster(f"test{next(self._numbers)}-{os.getpid()}", configuration)


def start_cluster(name: str, configuration: Configuration) -> LocalCluster:
    """Start a cluster of a configuration, its services and agents forked."""
    return LocalCluster.up(
        name,
        nodes=configuration.nodes,
        replicas=configuration.replicas,
        external_host=configuration.external_host,
        agent_settings={"routing": configuration.routing, "maps-conntrack": str(configuration.flows)},
        forks=True,
    )


def clear(cluster: LocalCluster) -> bool:
    """Remove a cluster's pods and policies; tell whether it is as it was when it was new."""
    while cluster.pods:
        cluster.pods.pop().delete()
    policies = Policies(cluster)
    policies.delete_all()
    endpoints = policies.cilia("endpoint", "list", "-o", "json")
    return endpoints.stdout.strip() == "[]" and not any(cluster.problems().values())
