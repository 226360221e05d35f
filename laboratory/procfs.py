"""Processes in /proc, told apart by start time and by the mark of their cluster."""

from pathlib import Path

from laboratory.state import StartedProcess


def start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot; None if it doesn't run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(process: StartedProcess) -> bool:
    """Tell whether the very process runs, not a later one of its pid."""
    return start_time(process.pid) == process.started


def cluster_mark(name: str) -> dict[str, str]:
    """Return the environment by which a cluster's processes are known without its state file."""
    return {"LOCAL_CLUSTER_OF_CILIA": name}


def marked_pids(name: str) -> set[int]:
    """Return the processes that bear a cluster's mark; others in its namespaces don't."""
    ((variable, value),) = cluster_mark(name).items()
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
