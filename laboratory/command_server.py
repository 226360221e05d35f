"""Process that has imported ``cilia`` once and forks for each command: the start of Python and the
imports are most of what a command costs.

``python -m laboratory.command_server FD``: each message on the socket ``FD`` is a command, with the
descriptors of its stdin, stdout, stderr and report (:mod:`laboratory.command_line`).
"""

import gc
import os
import signal
import socket
import sys
import threading
import traceback
from typing import Final

import msgspec
from msgspec import Struct

from cilia.commands.cli import build_parser, main

LONGEST_COMMAND: Final = 1 << 17
DESCRIPTORS: Final = 4


class Command(Struct, frozen=True):
    """Command to run; its input comes by its stdin."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str


def serve(commands: socket.socket) -> None:
    """Fork for each command until the other end of the socket is closed."""
    build_parser()  # imports every noun
    assert threading.active_count() == 1, "a fork would lose the other threads"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the commands but by their reports
    while True:
        message, descriptors, _, _ = socket.recv_fds(commands, LONGEST_COMMAND, DESCRIPTORS)
        if not message:
            return
        if os.fork() == 0:
            commands.close()
            os._exit(_run(msgspec.json.decode(message, type=Command), descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def _run(command: Command, descriptors: list[int]) -> int:
    """Run a command in this process and report pid and exit code."""
    *standard, report = descriptors
    os.write(report, b"%d\n" % os.getpid())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(command.environment)
    os.chdir(command.directory)
    code = _exit_code(command.arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.write(report, b"%d\n" % code)
    return code


def _exit_code(arguments: tuple[str, ...]) -> int:
    """Run a command as the interpreter would run its entry point."""
    sys.argv = ["cilia", *arguments]
    try:
        return main(arguments)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
