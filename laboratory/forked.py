"""Processes forked from one that has imported their program (:mod:`laboratory.fork_server`)."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from select import select
from typing import Final

import msgspec

import cilia as library
from laboratory.fork_server import Run

ROOT: Final = Path(library.__file__).parent.parent
SERVICES: Final = tuple(f"services.{name}.__main__" for name in ("agent", "identity", "ipam", "policy", "recorder"))
"""Programs that share one server, since they have most of their imports in common."""
OWN_NETWORK: Final = Path("/proc/thread-self/ns/net")


class Forked:
    """Forked process; as :class:`subprocess.Popen`, as far as it goes."""

    def __init__(self, program: str, report: int) -> None:
        self._program = program
        self._report = report
        self._text = b""
        self.returncode: int | None = None
        while b"\n" not in self._text and self.returncode is None:
            self._read()
        self.pid = int(self._text.split()[0]) if self._text else 0

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        while self.returncode is None and select([self._report], [], [], 0)[0]:
            self._read()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: It didn't end within ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select([self._report], [], [], left)[0]:
                raise subprocess.TimeoutExpired(self._program, timeout or 0)
            self._read()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> None:
        """Read the report: pid and exit code, or no code if the process was killed."""
        part = os.read(self._report, 64)
        self._text += part
        if not part:
            os.close(self._report)
            code = self._text.split()[1:]
            self.returncode = int(code[0]) if code else -signal.SIGKILL


def fork(
    program: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    network: Path = OWN_NETWORK,
    standard: tuple[int, int, int] | None = None,
) -> Forked:
    """Run a program (a module with ``main``) in a process of its own.

    Args:
        environment: By default that of this process.
        directory: By default that of this process.
        network: Network namespace; by default that of this thread.
        standard: Descriptors of stdin, stdout and stderr; by default nothing and this process's.
    """
    run = Run(
        program,
        tuple(arguments),
        dict(os.environ if environment is None else environment),
        str(directory or Path.cwd()),
    )
    nothing, namespace = os.open(os.devnull, os.O_RDONLY), os.open(network, os.O_RDONLY)
    reading, writing = os.pipe()
    try:
        _server(SERVICES if program in SERVICES else (program,)).run(
            run, [*(standard or (nothing, 1, 2)), namespace, writing]
        )
    finally:
        for descriptor in (nothing, namespace, writing):
            os.close(descriptor)
    return Forked(program, reading)


class _Server:
    """Fork server of some programs."""

    def __init__(self, programs: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "laboratory.fork_server", str(theirs.fileno()), *programs],
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )

    def run(self, run: Run, descriptors: list[int]) -> None:
        """Have a program run."""
        socket.send_fds(self._socket, [msgspec.json.encode(run)], descriptors)

    def close(self) -> None:
        """End the server; its forks are not its to end."""
        self._socket.close()
        self._process.wait(10)


@cache
def _server(programs: tuple[str, ...]) -> _Server:
    server = _Server(programs)
    atexit.register(server.close)
    return server
