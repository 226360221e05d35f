"""What is known of a running cluster: one JSON file, replaced by rename after each change."""

from pathlib import Path

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


class ProcessRecord(Struct, frozen=True):
    """One process: ``started`` (clock ticks since boot) tells it from a later one of the same
    number.
    """

    command: tuple[str, ...]
    namespace: str
    pid: int
    started: int


class NodeRecord(Struct, frozen=True):
    """One node."""

    name: NodeName
    ipv4: str
    ipv6: str = ""


class ClusterRecord(Struct, frozen=True):
    """One cluster."""

    name: str
    nats: str
    etcd: str
    nodes: tuple[NodeRecord, ...]
    processes: dict[str, ProcessRecord] = {}

    def save(self) -> None:
        """Write it, all or nothing."""
        path = Layout(self.name).record
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
        draft.replace(path)


def load_record(name: str) -> ClusterRecord:
    """Read what is known of a cluster.

    Raises:
        NoSuchCluster: There is none of this name.
    """
    try:
        return msgspec.json.decode(Layout(name).record.read_bytes(), type=ClusterRecord)
    except FileNotFoundError:
        raise NoSuchCluster(name, cluster_names()) from None


def cluster_names() -> tuple[str, ...]:
    """Return the names of the clusters on this machine."""
    return tuple(sorted(path.parent.name for path in STATE.glob("*/cluster.json")))


def traces() -> tuple[str, ...]:
    """Return the names of the clusters that left anything in :data:`~laboratory.layout.STATE`,
    recorded or not.
    """
    return tuple(sorted(path.name for path in STATE.glob("*")))


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it doesn't run (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(process: ProcessRecord) -> bool:
    """Tell whether the very process runs, not another with its number."""
    return start_time(process.pid) == process.started


def mark(name: str) -> dict[str, str]:
    """Return the environment by which a cluster's processes are known also when no record tells of
    them.
    """
    return {"LOCAL_CLUSTER_OF_CILIA": name}


def marked_pids(name: str) -> set[int]:
    """Return the processes that bear a cluster's mark; a user's own process in its namespaces does
    not.
    """
    ((variable, value),) = mark(name).items()
    wanted = f"{variable}={value}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found
