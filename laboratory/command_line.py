"""``cilia`` as users run it, and other programs to their end (:mod:`laboratory.forked`)."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Final

from laboratory.forked import fork

COMMAND_SECONDS: Final = 120.0
PROGRAM: Final = "cilia.commands.cli"


def cilia(
    *arguments: str,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_seconds: float = COMMAND_SECONDS,
) -> "subprocess.CompletedProcess[str]":
    """Run ``cilia``; see :func:`run_program`."""
    return run_program(
        PROGRAM,
        *arguments,
        text=text,
        environment=environment,
        directory=directory,
        timeout_seconds=timeout_seconds,
    )


def run_program(
    program: str,
    *arguments: str,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_seconds: float = COMMAND_SECONDS,
) -> "subprocess.CompletedProcess[str]":
    """Run a program with ``text`` as its input, and return its exit code and what it said.

    Args:
        environment: By default that of this process.
        directory: By default that of this process.

    Raises:
        subprocess.TimeoutExpired: It didn't end in time, and was killed.
    """
    with ExitStack() as stack:
        given, output, errors = (stack.enter_context(_open_memory(name)) for name in ("stdin", "stdout", "stderr"))
        given.write(text.encode())
        given.seek(0)
        standard = (given.fileno(), output.fileno(), errors.fileno())
        process = fork(program, arguments, environment=environment, directory=directory, standard=standard)
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        said = [os.pread(each.fileno(), os.fstat(each.fileno()).st_size, 0).decode() for each in (output, errors)]
    return subprocess.CompletedProcess((program, *arguments), code, *said)


def _open_memory(name: str) -> FileIO:
    return FileIO(os.memfd_create(name), "w+")
