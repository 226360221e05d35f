"""What is known of a running cluster: one JSON file, replaced by rename after each change."""

import msgspec
from msgspec import Struct

from cilia.contracts.ids import NodeName
from cilia.errors import Failure
from laboratory.layout import STATE, Layout


class NoSuchCluster(Failure):
    """No local cluster has this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        there = f"there are: {', '.join(known)}" if known else "none is running; start one with 'cilia cluster up'"
        super().__init__(f"no cluster {name!r}; {there}")


class StartedProcess(Struct, frozen=True):
    """One process: ``started`` (clock ticks since boot) tells it from a later one of the same
    number.
    """

    command: tuple[str, ...]
    namespace: str
    pid: int
    started: int


class UnderlayNode(Struct, frozen=True):
    """One node."""

    name: NodeName
    ipv4: str
    ipv6: str = ""


class ClusterState(Struct, frozen=True):
    """One cluster."""

    name: str
    nats: str
    etcd: str
    nodes: tuple[UnderlayNode, ...]
    processes: dict[str, StartedProcess] = {}

    def save(self) -> None:
        """Write it, all or nothing."""
        path = Layout(self.name).state_file
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
        draft.replace(path)


def load_state(name: str) -> ClusterState:
    """Read what is known of a cluster.

    Raises:
        NoSuchCluster: There is none of this name.
    """
    try:
        return msgspec.json.decode(Layout(name).state_file.read_bytes(), type=ClusterState)
    except FileNotFoundError:
        raise NoSuchCluster(name, cluster_names()) from None


def cluster_names() -> tuple[str, ...]:
    """Return the names of the clusters on this machine."""
    return tuple(sorted(path.parent.name for path in STATE.glob("*/cluster.json")))


def names_on_disk() -> tuple[str, ...]:
    """Return the names of the clusters that left anything in :data:`~laboratory.layout.STATE`,
    recorded or not.
    """
    return tuple(sorted(path.name for path in STATE.glob("*")))
