"""The agent's API on its unix socket, for programs without an event loop."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from cilia.contracts.agent import Call
from cilia.contracts.messages import Message, Reply
from cilia.errors import Failure, Refused

R = TypeVar("R")


class AgentUnreachable(Failure):
    """Nobody answers on the agent's socket."""

    exit_code = 3

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"no agent answers on {path}: {reason}")


def call(path: Path, name: str, arguments: Message, reply: type[R], *, timeout_seconds: float = 15.0) -> R:
    """Make one call; see :mod:`cilia.contracts.agent`.

    Raises:
        AgentUnreachable: Nobody answers in time.
        Refused: The agent said no.
    """
    with _connect(path, timeout_seconds) as stream:
        line = _ask(path, stream, name, arguments)
    answer = msgspec.json.decode(line, type=Reply[reply])  # type: ignore[valid-type]
    if answer.problem is not None:
        raise Refused(answer.problem)
    assert answer.ok is not None
    return answer.ok


@contextmanager
def _connect(path: Path, timeout_seconds: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(timeout_seconds)
        try:
            stream.connect(str(path))
        except OSError as error:
            raise AgentUnreachable(path, error.strerror or str(error)) from error
        yield stream


def _send(stream: socket.socket, name: str, arguments: Message) -> None:
    stream.sendall(msgspec.json.encode(Call(name, msgspec.Raw(msgspec.json.encode(arguments)))) + b"\n")


def _ask(path: Path, stream: socket.socket, name: str, arguments: Message) -> bytes:
    try:
        _send(stream, name, arguments)
        with stream.makefile("rb") as lines:
            line = lines.readline()
    except OSError as error:
        raise AgentUnreachable(path, str(error)) from error
    if not line:
        raise AgentUnreachable(path, "it hung up")
    return line
