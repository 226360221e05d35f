"""State of a running cluster: one JSON file, replaced by rename after each change."""

import msgspec
from msgspec import Struct

from cilia.commands.local_clusters import STATE_DIRECTORY, LocalClusterAddress, read_state_file
from cilia.contracts.ids import NodeName
from laboratory.layout import Layout


class StartedProcess(Struct, frozen=True):
    """Process of a cluster."""

    command: tuple[str, ...]
    namespace: str
    pid: int
    started: int
    """Clock ticks since boot, which tell it from a later process of the same pid."""


class UnderlayNode(Struct, frozen=True):
    """Node with its addresses on the underlay."""

    name: NodeName
    ipv4: str
    ipv6: str = ""


class ClusterState(LocalClusterAddress, frozen=True):
    """State of one cluster, as its file holds it."""

    etcd: str
    nodes: tuple[UnderlayNode, ...]
    processes: dict[str, StartedProcess] = msgspec.field(default_factory=dict)

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
        BadClusterName, NoSuchCluster: The name is none, or no cluster's.
    """
    return msgspec.json.decode(read_state_file(name), type=ClusterState)


def names_on_disk() -> tuple[str, ...]:
    """Return the names of clusters that left anything on disk, with a state file or without."""
    return tuple(sorted(path.name for path in STATE_DIRECTORY.glob("*")))
