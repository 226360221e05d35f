"""``cilia`` as users run it: each command in a process of its own, forked from one that has already
imported it (:mod:`laboratory.command_server`).
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from io import FileIO
from pathlib import Path
from select import select
from typing import Final

import msgspec

import cilia as library
from laboratory.command_server import Command

ROOT: Final = Path(library.__file__).parent.parent
COMMAND_SECONDS: Final = 120.0


def cilia(
    *arguments: str,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_seconds: float = COMMAND_SECONDS,
) -> "subprocess.CompletedProcess[str]":
    """Run ``cilia`` with ``text`` as its input, and return its exit code and what it said.

    Args:
        environment: By default that of this process.
        directory: By default that of this process.

    Raises:
        subprocess.TimeoutExpired: It didn't end in time, and was killed.
    """
    command = Command(arguments, dict(os.environ if environment is None else environment), str(directory or Path.cwd()))
    with ExitStack() as stack:
        given, output, errors = (stack.enter_context(_open_memory(name)) for name in ("stdin", "stdout", "stderr"))
        given.write(text.encode())
        given.seek(0)
        reading, writing = os.pipe()
        report = stack.enter_context(FileIO(reading))
        try:
            _server().run(command, [given.fileno(), output.fileno(), errors.fileno(), writing])
        finally:
            os.close(writing)
        code = _wait(report, arguments, timeout_seconds)
        said = [os.pread(each.fileno(), os.fstat(each.fileno()).st_size, 0).decode() for each in (output, errors)]
    return subprocess.CompletedProcess(("cilia", *arguments), code, *said)


def _open_memory(name: str) -> FileIO:
    return FileIO(os.memfd_create(name), "w+")


def _wait(report: FileIO, arguments: tuple[str, ...], timeout_seconds: float) -> int:
    """Return a command's exit code by its report: pid and code, or no code if it was killed."""
    text, deadline = b"", time.monotonic() + timeout_seconds
    while select([report], [], [], max(deadline - time.monotonic(), 0))[0]:
        part = report.read(64)
        if not part:
            code = text.split()[1:]
            return int(code[0]) if code else -signal.SIGKILL
        text += part
    if text:
        os.kill(int(text.split()[0]), signal.SIGKILL)
    raise subprocess.TimeoutExpired(arguments, timeout_seconds)


class _Server:
    """Running command server."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "laboratory.command_server", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def run(self, command: Command, descriptors: list[int]) -> None:
        """Have a command run."""
        socket.send_fds(self._socket, [msgspec.json.encode(command)], descriptors)

    def close(self) -> None:
        """End the server; commands that still run are not its to end."""
        self._socket.close()
        self._process.wait(10)


@cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.close)
    return server
