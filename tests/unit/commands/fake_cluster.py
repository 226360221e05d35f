"""A cluster that commands talk to in this process: answers to order, tables, and virtual time."""

import asyncio
import io
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from cilia.bus import Bus
from cilia.commands.cli import main
from cilia.commands.session import Session
from cilia.contracts.messages import Message, Problem, ProblemCode
from cilia.contracts.subjects import Subjects
from cilia.contracts.tables import Table
from cilia.errors import Refused, Unavailable
from tests.fakes.clock import FakeTimeLoop

Answer = Message | Exception | Callable[[Any], Any]
UNAVAILABLE = Unavailable("somebody", "no answer within 5 s")
REFUSED = Refused(Problem(ProblemCode.INVALID, "it makes no sense", "text", "odd"))


@dataclass(frozen=True)
class Run:
    """Outcome of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The result as a program reads it."""
        return msgspec.json.decode(self.out)

    @property
    def table(self) -> list[list[str]]:
        """The result as cells; columns are two spaces apart."""
        return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in self.out.splitlines()]


def run_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str, text: str = ""
) -> Run:
    """Run a command in this process, with a text on its standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    printed = capsys.readouterr()
    return Run(code, printed.out, printed.err)


@dataclass(frozen=True)
class Request:
    """A request that a command has made; its message has been encoded and decoded."""

    subject: str
    message: Any
    timeout: float


class _Delivered:
    """A message as a subscription gets it."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class FakeBus:
    """Answers requests in JSON, as a bus with services behind it would."""

    def __init__(self, cluster: "FakeCluster") -> None:
        self.subjects = Subjects(cluster.name)
        self._cluster = cluster
        self._listeners: list[tuple[str, Callable[[Any], Any]]] = []

    async def request(self, subject: str, message: Message, reply_type: type[Any], *, timeout: float) -> Any:
        service, call = subject.split(".")[-2:]
        short = subject.removeprefix(f"cilia.v1.{self._cluster.name}.")
        request = msgspec.json.decode(msgspec.json.encode(message), type=type(message))
        self._cluster.requests.append(Request(short, request, timeout))
        answer = self._cluster.answers.get(short)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request)
        await asyncio.sleep(self._cluster.latency_seconds)
        if answer is None:
            raise Unavailable(service, f"nobody serves {call!r}")
        if isinstance(answer, Exception):
            raise answer
        return msgspec.json.decode(msgspec.json.encode(answer), type=reply_type)

    async def subscribe(self, subject: str, deliver: Callable[[Any], Any]) -> None:
        self._listeners.append((subject, deliver))

    async def flush(self) -> None:
        for subject, deliver in self._listeners:
            for message in self._cluster.published.get(subject, ()):
                await deliver(_Delivered(msgspec.json.encode(message)))


class FakeSession(Session):
    """A session whose tables are dictionaries."""

    def __init__(self, bus: Bus, cluster: "FakeCluster") -> None:
        super().__init__(bus, cluster.name)
        self._tables = cluster.tables

    async def read(self, table: Table[Any, Any]) -> dict[Any, Any]:
        rows = self._tables.get(table.name, {})
        if isinstance(rows, Exception):
            raise rows
        return dict(rows)


@dataclass
class FakeCluster:
    """Everything that a test orders, and what commands asked for.

    Attributes:
        answers: Subject without its prefix, such as ``request.policy.apply`` -> answer, error,
            function of the request, or a list of them: one a request, the last again and again.
        tables: Name -> rows, or the error of reading it.
        published: Subject -> messages that whoever listens gets.
        latency_seconds: Time that each answer takes.
    """

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    name: str = "shop"
    answers: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Mapping[Any, Any] | Exception] = field(default_factory=dict)
    published: dict[str, list[Message]] = field(default_factory=dict)
    latency_seconds: float = 0.0
    requests: list[Request] = field(default_factory=list)
    sessions: int = 0

    def __post_init__(self) -> None:
        for module in ("cilia.commands.session", "cilia.commands.policy.recorded"):
            self.monkeypatch.setattr(f"{module}.open_session", self._open)
        self.monkeypatch.setattr("asyncio.events.new_event_loop", FakeTimeLoop)
        self.monkeypatch.setattr("getpass.getuser", lambda: "ann")
        self.monkeypatch.delenv("CILIA_CLUSTER", raising=False)

    @asynccontextmanager
    async def _open(self, _: object) -> AsyncIterator[Session]:
        self.sessions += 1
        yield FakeSession(FakeBus(self), self)  # type: ignore[arg-type]

    def run(self, *words: str, text: str = "") -> Run:
        """Run a command with a text on its standard input."""
        return run_command(self.capsys, self.monkeypatch, *words, text=text)

    def messages(self, subject: str) -> list[Any]:
        """Return the messages of the requests on a subject, in their order."""
        return [request.message for request in self.requests if request.subject == subject]
