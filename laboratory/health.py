"""Health of a local cluster's parts, asked the way their users would."""

import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from cilia.contracts.agent import AgentState, AgentStatus
from cilia.contracts.messages import Empty
from cilia.errors import Failure, Refused
from cilia.netns import inside
from laboratory.agent_client import AgentUnreachable, call
from laboratory.layout import Layout, netns_path
from laboratory.processes import HEALTH_FLAG
from laboratory.procfs import is_running
from laboratory.state import StartedProcess

_ANSWER_SECONDS: Final = 1.0


class NotHealthy(Failure):
    """Parts of a cluster did not come up; ``reasons`` says why, by name."""

    def __init__(self, reasons: dict[str, str], logs: Path) -> None:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in sorted(reasons.items()))
        super().__init__(f"not healthy in time (logs in {logs}):{lines}")
        self.reasons = reasons


def find_problem(layout: Layout, name: str, process: StartedProcess) -> str:
    """Return the problem of a part of the cluster; an empty text if it is healthy."""
    if not is_running(process):
        return f"not running; the last that it said: {_last_words(layout.log(name))}"
    kind, _, node = name.partition("/")
    match kind:
        case "etcd":
            return _find_connect_problem(process.namespace, layout.etcd)
        case "nats":
            return _find_connect_problem(process.namespace, layout.nats.removeprefix("nats://"))
        case "agent":
            return _find_agent_problem(layout, node)
        case "web":
            return _find_connect_problem(process.namespace, f"127.0.0.1:{process.command[-1]}")
        case _:
            return _find_http_problem(process.namespace, process.command[process.command.index(HEALTH_FLAG) + 1])


def wait_until_healthy(
    layout: Layout,
    processes: dict[str, StartedProcess],
    *,
    timeout_seconds: float,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Wait until all of ``processes`` are healthy; ``progress`` hears the name of each that is.

    Raises:
        NotHealthy: Some aren't in time, or one has ended.
    """
    deadline = time.monotonic() + timeout_seconds
    waiting = dict(processes)
    while True:
        reasons = {name: find_problem(layout, name, process) for name, process in waiting.items()}
        for name, reason in reasons.items():
            if not reason:
                del waiting[name]
                progress(name)
        if not waiting:
            return
        if time.monotonic() > deadline or any(not is_running(process) for process in waiting.values()):
            raise NotHealthy({name: reason for name, reason in reasons.items() if reason}, layout.directory / "logs")
        time.sleep(0.05)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "nothing"


def _open(namespace: str) -> socket.socket:
    with inside(netns_path(namespace)):
        opened = socket.socket()
    opened.settimeout(_ANSWER_SECONDS)
    return opened


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _find_connect_problem(namespace: str, address: str) -> str:
    with closing(_open(namespace)) as probe:
        try:
            probe.connect(_split(address))
        except OSError as error:
            return f"{address}: {error}"
    return ""


def _find_http_problem(namespace: str, address: str) -> str:
    with closing(_open(namespace)) as probe:
        try:
            probe.connect(_split(address))
            probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = probe.recv(4096).decode(errors="replace").partition("\r\n\r\n")
        except OSError as error:
            return f"{address}: {error}"
    return "" if " 200 " in head.partition("\r\n")[0] else f"{address}: {body.strip() or head}"


def _find_agent_problem(layout: Layout, node: str) -> str:
    try:
        status = call(layout.agent_socket(node), "status", Empty(), AgentStatus, timeout_seconds=_ANSWER_SECONDS)
    except (AgentUnreachable, Refused) as error:
        return str(error)
    return "" if status.state is AgentState.READY else f"the agent is {status.state}"
