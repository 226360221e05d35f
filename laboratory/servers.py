"""Real servers for tests: etcd and nats-server on free ports of 127.0.0.1, with their data in a
directory of the test.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

STARTUP_SECONDS = 60.0


class Server:
    """One process that can be killed and started again on the same port and data."""

    def __init__(
        self, command: list[str], port: int, directory: Path, is_ready: Callable[[], bool] | None = None
    ) -> None:
        self._command = command
        self.port = port
        self._is_ready = is_ready or (lambda: _answers(port))
        self._log = directory / f"{Path(command[0]).name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For NATS."""
        return f"nats://{self.address}"

    @property
    def pid(self) -> int:
        """Pid of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it is ready; by default, when the port answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    async def restart(self, *, after_seconds: float = 0.0) -> None:
        """kill -9, wait, start again; the event loop runs on meanwhile."""
        await asyncio.to_thread(self.kill)
        await asyncio.sleep(after_seconds)
        await asyncio.to_thread(self.start)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)
            self._process.wait(10)


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_healthy(metrics_port: int) -> bool:
    """Tell whether etcd has a leader: its port answers before."""
    try:
        with urlopen(f"http://127.0.0.1:{metrics_port}/health", timeout=1) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def start_etcd(
    directory: Path, options: Sequence[str] = (), scheme: str = "http", *, durable: bool = False
) -> Iterator[Server]:
    """Run etcd, its data below ``directory``; ``scheme`` https needs ``options`` with certificates.

    Args:
        durable: As in production. Otherwise it starts and ends leases ten times as fast, and writes
            without fsync, which loses nothing when the process is killed.
    """
    port, peer, metrics = free_port(), free_port(), free_port()
    client_url, peer_url = f"{scheme}://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    command = ["etcd", "--name", "one", "--data-dir", str(directory / "etcd"), "--log-level", "error"]
    command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
    command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
    command += [
        "--initial-cluster",
        f"one={peer_url}",
        "--listen-metrics-urls",
        f"http://127.0.0.1:{metrics}",
        *(() if durable else ("--heartbeat-interval=10", "--election-timeout=100", "--unsafe-no-fsync")),
        *options,
    ]
    yield from _run(Server(command, port, directory, lambda: _is_healthy(metrics)))


@contextmanager
def start_nats(directory: Path | None = None, options: Sequence[str] = ()) -> Iterator[Server]:
    """Run nats-server, its log in ``directory``, by default one that goes with it."""
    port = free_port()
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server") or "nats-server"
    command = [program, "-a", "127.0.0.1", "-p", str(port), *options]
    with nullcontext(directory) if directory else tempfile.TemporaryDirectory() as log:
        yield from _run(Server(command, port, Path(log)))


def _run(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.kill()


def process_exists(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
