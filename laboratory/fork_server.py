"""Process that has imported programs once and forks for each run of one of them.

The start of Python and the imports are most of what a command costs, and of a service's start.

``python -m laboratory.fork_server FD PROGRAM...``: each message on the socket ``FD`` is a run of
one of the modules, with the descriptors of its stdin, stdout, stderr, network namespace and report
(:mod:`laboratory.forked`).
"""

import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

import msgspec
from msgspec import Struct

LONGEST_RUN: Final = 1 << 17
DESCRIPTORS: Final = 5
CLONE_NEWNET: Final = 0x4000_0000


class Run(Struct, frozen=True):
    """Run of a program."""

    program: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str


def serve(runs: socket.socket, programs: Sequence[str]) -> None:
    """Fork for each run until the other end of the socket is closed."""
    modules = {program: import_module(program) for program in programs}
    for module in modules.values():
        if prepare := getattr(module, "build_parser", None):
            prepare()  # the command line imports its nouns late
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the other threads"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks but by their reports
    while True:
        message, descriptors, _, _ = socket.recv_fds(runs, LONGEST_RUN, DESCRIPTORS)
        if not message:
            return
        if os.fork() == 0:
            runs.close()
            run = msgspec.json.decode(message, type=Run)
            os._exit(_run(modules[run.program].main, run, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def _run(main: Callable[[], int | None], run: Run, descriptors: list[int]) -> int:
    """Become the program, and report pid and exit code."""
    *standard, namespace, report = descriptors
    os.setsid()
    os.write(report, b"%d\n" % os.getpid())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(namespace)
    os.environ.clear()
    os.environ.update(run.environment)
    os.chdir(run.directory)
    sys.argv = ["cilia", *run.arguments]
    code = _exit_code(main)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.write(report, b"%d\n" % code)
    return code


def _exit_code(main: Callable[[], int | None]) -> int:
    """Run a program as the interpreter would run its entry point."""
    try:
        return main() or 0
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
