"""Processes of a local cluster: started in a network namespace, ended by pid and start time."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Final

import cilia
from cilia.errors import Failure
from laboratory.forked import Forked, fork
from laboratory.layout import HUB_ADDRESS, POOLS, Layout, netns_path
from laboratory.procfs import cluster_mark, is_running, start_time
from laboratory.state import StartedProcess, UnderlayNode

GRACE_SECONDS: Final = 3.0
FIRST_HEALTH_PORT: Final = 9100
AGENT_METRICS_PORT: Final = 9099
HEALTH_FLAG: Final = "--telemetry-listen"
SERVICES: Final = ("ipam", "identity", "policy", "recorder")
MAX_TXN_OPS: Final = 10_000
"""Limit of etcd: a directory of policies is one transaction."""
MAX_REQUEST_BYTES: Final = 10 << 20
"""Limit of etcd: the documents of a change, and those before and after that its revision keeps;
etcd warns above 10 MiB.
"""
MAX_PAYLOAD_BYTES: Final = 8 << 20
"""Limit of NATS: the text of a change, and its documents before and after in the answer to a dry
run; nats-server warns above 8 MiB.
"""


PING_SECONDS: Final = 2.0
"""Pause between pings of NATS: a service that hangs is asked until a few are missing."""

ServiceSettings = Mapping[str, Mapping[str, str]]
"""Service -> flag without its dashes -> value."""


class ProgramMissing(Failure):
    """A program that a cluster needs is not on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} is not installed; 'make setup' installs what a local cluster needs")


def commands(
    layout: Layout,
    nodes: Iterable[UnderlayNode],
    replicas: int,
    otlp: str,
    agent_settings: Mapping[str, str],
    service_settings: ServiceSettings,
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the processes of a cluster in starting order: name -> (namespace, command).

    Args:
        otlp: Base URL of the OTLP/HTTP collector that services and agents report to; empty: none.
        agent_settings: Flag without its dashes -> value, for every agent.
    """
    hub = layout.hub
    found: dict[str, tuple[str, tuple[str, ...]]] = {
        "etcd": (hub, _etcd(layout)),
        "nats": (hub, (_program("nats-server"), "-a", str(HUB_ADDRESS), "-p", "4222", "-c", str(layout.nats_config))),
    }
    for number, (replica, service) in enumerate(product(range(1, replicas + 1), SERVICES)):
        name = f"{service}-{replica}"
        settings = service_settings.get(service, {})
        found[f"service/{name}"] = (hub, _service(layout, service, name, FIRST_HEALTH_PORT + number, settings))
    for node in nodes:
        found[f"agent/{node.name}"] = (layout.namespace(node.name), _agent(layout, node, agent_settings))
    if otlp:
        reporting = ("--telemetry-otlp-endpoint", otlp)
        for name in found.keys() - {"etcd", "nats"}:
            namespace, command = found[name]
            found[name] = (namespace, command + reporting)
    return found


def write_nats_config(layout: Layout) -> None:
    """Write what nats-server takes from a file only."""
    pings = f'ping_interval: "{PING_SECONDS:g}s"\nping_max: 2\n'
    layout.nats_config.write_text(f"max_payload: {MAX_PAYLOAD_BYTES}\n{pings}")


def start(
    layout: Layout, name: str, namespace: str, command: tuple[str, ...], *, forks: bool = False
) -> StartedProcess:
    """Start a process in its namespace, its output appended to its log.

    Args:
        forks: Fork modules of Python from a process that has imported them, which is faster; but
            /proc shows the command and environment of that process.
    """
    log = layout.log(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    root = str(Path(cilia.__file__).parent.parent)
    environment = os.environ | cluster_mark(layout.name) | {"PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        if forks and command[:2] == (sys.executable, "-m"):
            pid = _fork(command[2:], environment, namespace, output.fileno())
            return StartedProcess(command, namespace, pid, start_time(pid) or 0)
        process = subprocess.Popen(
            ["nsenter", f"--net={netns_path(namespace)}", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    _children[process.pid] = process
    return StartedProcess(command, namespace, process.pid, start_time(process.pid) or 0)


def _fork(command: tuple[str, ...], environment: dict[str, str], namespace: str, output: int) -> int:
    program, *arguments = command
    if program.startswith("services."):
        program += ".__main__"
    with open(os.devnull, "rb") as nothing:
        standard = (nothing.fileno(), output, output)
        network, directory = netns_path(namespace), Path("/")
        forked = fork(
            program, arguments, environment=environment, directory=directory, network=network, standard=standard
        )
    _forked[forked.pid] = forked
    return forked.pid


def end(processes: Iterable[StartedProcess], *, grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask processes to end, all at once, and kill those that haven't after the grace period."""
    ending = list(processes)
    waiting = [process for process in ending if is_running(process)]
    for process in waiting:
        _signal(process, signal.SIGTERM)
        _signal(process, signal.SIGCONT)
    deadline = time.monotonic() + grace_seconds
    while waiting and time.monotonic() < deadline:
        time.sleep(0.02)
        waiting = [process for process in waiting if is_running(process)]
    for process in waiting:
        kill(process)
    for process in ending:
        _reap(process)


def kill(process: StartedProcess) -> None:
    """kill -9, and wait until it is gone."""
    _signal(process, signal.SIGKILL)
    deadline = time.monotonic() + GRACE_SECONDS
    while is_running(process) and time.monotonic() < deadline:
        time.sleep(0.005)
    _reap(process)


def freeze(process: StartedProcess) -> None:
    """Have a process hang: its connections stay, and it answers nothing."""
    _signal(process, signal.SIGSTOP)


def thaw(process: StartedProcess) -> None:
    """Have a process go on that hangs."""
    _signal(process, signal.SIGCONT)


_children: dict[int, "subprocess.Popen[bytes]"] = {}
"""Processes that this process started; reaped when they are killed."""
_forked: dict[int, Forked] = {}
"""Processes that were forked for this process; nobody needs to reap them."""


def _reap(process: StartedProcess) -> None:
    child = _children.pop(process.pid, None) or _forked.pop(process.pid, None)
    if child is not None:
        child.wait()


def _signal(process: StartedProcess, number: signal.Signals) -> None:
    if is_running(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def _etcd(layout: Layout) -> tuple[str, ...]:
    client, peer = f"http://{layout.etcd}", "http://127.0.0.1:2380"
    options = {
        "name": "one",
        "data-dir": layout.directory / "etcd",
        "log-level": "error",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"one={peer}",
        "max-txn-ops": MAX_TXN_OPS,
        "max-request-bytes": MAX_REQUEST_BYTES,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
    }
    return (_program("etcd"), *(f"--{name}={value}" for name, value in options.items()))


def _service(layout: Layout, service: str, replica: str, port: int, settings: Mapping[str, str]) -> tuple[str, ...]:
    command = [sys.executable, "-m", f"services.{service}", "--cluster", layout.name, "--replica", replica]
    command += ["--nats-urls", layout.nats, "--etcd-endpoints", layout.etcd]
    command += ["--etcd-max-txn-ops", str(MAX_TXN_OPS), "--etcd-max-request-bytes", str(MAX_REQUEST_BYTES)]
    command += [HEALTH_FLAG, f"{HUB_ADDRESS}:{port}"]
    if service == "ipam":
        command += ["--pools", ",".join(POOLS)]
    command += [part for name, value in settings.items() for part in (f"--{name}", value)]
    return tuple(command)


def _agent(layout: Layout, node: UnderlayNode, settings: Mapping[str, str]) -> tuple[str, ...]:
    command = [sys.executable, "-m", "services.agent", "--cluster", layout.name, "--node", node.name]
    command += ["--ipv4", node.ipv4, "--ipv6", node.ipv6, "--nats-urls", layout.nats]
    command += ["--socket", str(layout.agent_socket(node.name))]
    command += ["--state-directory", str(layout.node_state(node.name))]
    command += ["--pin-directory", str(layout.pins / node.name), HEALTH_FLAG, f"{node.ipv4}:{AGENT_METRICS_PORT}"]
    command += [part for name, value in settings.items() for part in (f"--{name}", value)]
    return tuple(command)


def web_server(name: str, port: int) -> tuple[str, ...]:
    """Return the command of a pod's small HTTP server."""
    return (sys.executable, "-m", "laboratory.http_server", name, str(port))


def _program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ProgramMissing(name)
    return found
