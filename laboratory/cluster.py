"""Local cluster: started, looked after, changed by tests, and removed.

Synchronous: it starts processes and waits for them. Every piece that it makes bears the cluster's
name, so ``down`` finds it also when the state file is lost.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from msgspec.structs import replace

from cilia.contracts.messages import Message
from cilia.errors import Failure
from cilia.netns import inside
from laboratory import agent_client, processes
from laboratory.external_host import create_external_host, external_host_of, host_of
from laboratory.health import find_problem, wait_until_healthy
from laboratory.layout import Families, Layout, check_replicas, netns_path, node_addresses, node_names
from laboratory.machine import Machine
from laboratory.namespaces import delete_namespace, namespaces_of
from laboratory.pod import Pod, create_pod
from laboratory.procfs import marked_pids, start_time
from laboratory.state import ClusterState, StartedProcess, UnderlayNode, load_state
from laboratory.underlay import create_underlay

STARTUP_SECONDS: Final = 120.0
NO_SETTINGS: Final[Mapping[str, str]] = {}
NO_SERVICE_SETTINGS: Final[processes.ServiceSettings] = {}
R = TypeVar("R")


class ClusterExists(Failure):
    """A cluster of this name runs already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cluster {name!r} exists; 'cilia cluster down --name {name}' removes it")


class NoSuchProcess(Failure):
    """A cluster has no process of this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no process {name!r}; there are: {', '.join(known)}")


class NoSuchNode(Failure):
    """A cluster has no node of this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no node {name!r}; there are: {', '.join(known)}")


class LocalCluster:
    """A running cluster."""

    def __init__(self, state: ClusterState, *, forks: bool = False) -> None:
        self.state = state
        self.layout = Layout(state.name)
        self.pods: list[Pod] = []
        self._forks = forks

    @classmethod
    def up(
        cls,
        name: str,
        *,
        nodes: int = 3,
        replicas: int = 1,
        otlp: str = "",
        families: Families = Families.DUAL,
        external_host: bool = False,
        agent_settings: Mapping[str, str] = NO_SETTINGS,
        service_settings: processes.ServiceSettings = NO_SERVICE_SETTINGS,
        forks: bool = False,
        progress: Callable[[str], None] = lambda _: None,
        timeout_seconds: float = STARTUP_SECONDS,
    ) -> "LocalCluster":
        """Start a cluster and wait until all of it is healthy; what was begun is removed if that
        fails.

        Args:
            families: IP versions of the pods' addresses.
            external_host: Have a host beyond the nodes, behind a router without routes to pods.
            agent_settings: Flag without its dashes -> value, for every agent
                (services/agent/config.py).
            service_settings: Likewise for the replicas of services, by service.
            forks: Services and agents are forked from processes that have imported them.

        Raises:
            ClusterExists: The name is in use.
            BadNodeCount, BadReplicaCount: A number is out of range.
            NotHealthy, ProgramMissing, NetworkFailed: It can't be started.
        """
        layout = Layout(name)
        members = tuple(
            UnderlayNode(node, *map(str, node_addresses(index))) for index, node in enumerate(node_names(nodes))
        )
        agent_settings = families.pools | dict(agent_settings)
        check_replicas(replicas)
        _claim(layout)
        cluster = cls(ClusterState(name, layout.nats, layout.hub, layout.etcd, members), forks=forks)
        try:
            cluster.state.save()
            processes.write_nats_config(layout)
            create_underlay(layout, members)
            if external_host:
                create_external_host(layout, members)
            cluster._start(
                processes.commands(layout, members, replicas, otlp, agent_settings, service_settings),
                progress,
                timeout_seconds,
            )
        except BaseException:
            cluster.down()
            raise
        return cluster

    @classmethod
    def open(cls, name: str) -> "LocalCluster":
        """Return a cluster that runs already.

        Raises:
            NoSuchCluster: There is none.
        """
        return cls(load_state(name))

    def _start(
        self, wanted: dict[str, tuple[str, tuple[str, ...]]], progress: Callable[[str], None], timeout_seconds: float
    ) -> None:
        ground = {name: command for name, command in wanted.items() if name in ("etcd", "nats")}
        rest = {name: command for name, command in wanted.items() if name not in ground}
        for group in (ground, rest):
            started = {
                name: processes.start(self.layout, name, *command, forks=self._forks) for name, command in group.items()
            }
            self._remember(started)
            wait_until_healthy(self.layout, started, timeout_seconds=timeout_seconds, progress=progress)

    def _remember(self, started: dict[str, StartedProcess]) -> None:
        self.state = replace(self.state, processes=self.state.processes | started)
        self.state.save()

    def process(self, name: str) -> StartedProcess:
        """Return a process such as ``agent/node1``, ``service/policy-1``, ``nats`` or ``etcd``.

        Raises:
            NoSuchProcess: There is none of this name.
        """
        try:
            return self.state.processes[name]
        except KeyError:
            raise NoSuchProcess(name, tuple(self.state.processes)) from None

    def problems(self) -> dict[str, str]:
        """Return the problem of each process, an empty text if it is healthy."""
        return {name: find_problem(self.layout, name, process) for name, process in self.state.processes.items()}

    def kill(self, name: str) -> None:
        """kill -9 a process."""
        processes.kill(self.process(name))

    def freeze(self, name: str) -> None:
        """Have a process hang (SIGSTOP)."""
        processes.freeze(self.process(name))

    def thaw(self, name: str) -> None:
        """Have a process go on that hangs."""
        processes.thaw(self.process(name))

    def start(self, name: str, *, wait: bool = True, settings: Mapping[str, str] = NO_SETTINGS) -> None:
        """Start a process again that has ended.

        Args:
            settings: Flag without its dashes -> value, for this start only; the last of a name
                counts.

        Raises:
            NotHealthy: It doesn't come up.
        """
        old = self.process(name)
        flags = tuple(part for flag, value in settings.items() for part in (f"--{flag}", value))
        new = processes.start(self.layout, name, old.namespace, old.command + flags, forks=self._forks)
        self._remember({name: replace(new, command=old.command)})
        if wait:
            wait_until_healthy(self.layout, {name: new}, timeout_seconds=STARTUP_SECONDS)

    def restart(self, name: str, *, settings: Mapping[str, str] = NO_SETTINGS) -> None:
        """kill -9 a process, start it (with other settings, for this start only) and wait until it
        is healthy.
        """
        self.kill(name)
        self.start(name, settings=settings)

    def agent_call(self, node: str, name: str, arguments: Message, reply: type[R]) -> R:
        """Call a node's agent on its socket (:mod:`cilia.contracts.agent`)."""
        return agent_client.call(self.layout.agent_socket(node), name, arguments, reply)

    def pod(
        self,
        node: str,
        namespace: str,
        name: str,
        labels: dict[str, str],
        *,
        namespace_labels: dict[str, str] | None = None,
        named_ports: tuple[tuple[str, str, int], ...] = (),
    ) -> Pod:
        """Make a pod: a network namespace that the node's agent has connected, policy in force.

        Args:
            named_ports: (name, protocol, port) of the ports that policies may name.

        Raises:
            Refused: The agent said no.
        """
        pod = create_pod(self.layout, node, namespace, name, labels, namespace_labels or {}, named_ports)
        self.pods.append(pod)
        return pod

    def host(self, node: str) -> Machine:
        """Return a node's host.

        Raises:
            NoSuchNode: There is none of this name.
        """
        for record in self.state.nodes:
            if record.name == node:
                return host_of(self.layout, record)
        raise NoSuchNode(node, tuple(record.name for record in self.state.nodes))

    def external_host(self) -> Machine:
        """Return the machine beyond the nodes of a cluster that was started with it."""
        return external_host_of(self.layout)

    def serve_http(self, *pods: Pod, port: int) -> None:
        """Run a small HTTP server in each pod, as processes of the cluster, and wait until they
        listen.
        """
        started = {
            f"web/{pod.name}": processes.start(
                self.layout, f"web/{pod.name}", pod.network, processes.web_server(pod.name, port)
            )
            for pod in pods
        }
        self._remember(started)
        wait_until_healthy(self.layout, started, timeout_seconds=STARTUP_SECONDS)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread open its sockets beside etcd and NATS for the block."""
        with inside(netns_path(self.layout.hub)):
            yield

    def down(self) -> None:
        """End all processes, remove namespaces, pins and files. What is gone already is fine."""
        for pod in self.pods:
            pod.close()
        processes.end(self.state.processes.values())
        remove(self.layout)


def _claim(layout: Layout) -> None:
    """Make the cluster's directory: of two that start the same name at once, one does.

    Raises:
        ClusterExists: Another has it.
    """
    if namespaces_of(layout):
        raise ClusterExists(layout.name)
    try:
        layout.directory.mkdir(parents=True)
    except FileExistsError:
        raise ClusterExists(layout.name) from None


def remove(layout: Layout) -> None:
    """Remove whatever bears a cluster's name, in its state file or not."""
    left = [StartedProcess((), "", pid, start_time(pid) or 0) for pid in marked_pids(layout.name)]
    processes.end(left, grace_seconds=0.5)
    for namespace in namespaces_of(layout):
        delete_namespace(namespace)
    for directory in (layout.pins, layout.directory):
        shutil.rmtree(directory, ignore_errors=True)
        _remove_if_empty(directory.parent)


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return
