"""The unix socket: a line in, a line out, whatever the line holds."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cilia.contracts.agent import EndpointReference, MapQuery
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.errors import Refused, Unavailable
from services.agent.api import socket as module
from services.agent.api.socket import LINE_LIMIT, Socket
from tests.unit.agent.loops import running, until


class Service:
    """Calls with every kind of answer."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()

    async def echo(self, request: EndpointReference) -> EndpointReference:
        return request

    async def refuse(self, _request: Empty) -> Empty:
        raise Refused(Problem(ProblemCode.CONFLICT, "no", "name", "web"))

    async def away(self, _request: Empty) -> Empty:
        raise Unavailable("identity", "no answer")

    async def bug(self, _request: MapQuery) -> Empty:
        raise ZeroDivisionError("a bug")

    async def wait(self, _request: Empty) -> Empty:
        await self.waiting.wait()
        return Empty()

    def calls(self) -> dict[str, Any]:
        return {
            "echo": (EndpointReference, self.echo),
            "refuse": (Empty, self.refuse),
            "away": (Empty, self.away),
            "bug": (MapQuery, self.bug),
            "wait": (Empty, self.wait),
        }


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Path]:
    """Serve the calls; give the socket's path."""
    path = directory / "run" / "agent.sock"
    async with running(Socket(path, Service().calls()).run):
        await until(path.exists)
        yield path


@asynccontextmanager
async def caller(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(path: Path, *lines: bytes) -> list[Any]:
    """Send lines over one connection and return the answers."""
    async with caller(path) as (reader, writer):
        writer.writelines(line + b"\n" for line in lines)
        return [json.loads(await reader.readline()) for _ in lines]


def call(name: str, /, **arguments: Any) -> bytes:
    return json.dumps({"call": name, "arguments": arguments}).encode()


async def test_a_call_is_answered_with_a_line(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        (reply,) = await ask(path, call("echo", namespace="shop", name="web"))
    assert reply == {"ok": {"id": 0, "namespace": "shop", "name": "web"}}


async def test_calls_of_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        replies = await ask(path, *(call("echo", id=each) for each in range(1, 20)))
    assert [reply["ok"]["id"] for reply in replies] == list(range(1, 20))


async def test_whatever_goes_wrong_is_a_problem_and_the_connection_goes_on(tmp_path: Path) -> None:
    lines = (
        b"no json",
        b'{"arguments": {}}',
        call("nothing"),
        call("echo", id="seven"),
        call("bug"),
        call("bug", name="cilia_ct4"),
        call("refuse"),
        call("away"),
        call("echo"),
    )
    async with served(tmp_path) as path:
        *problems, last = await ask(path, *lines)
    found = [(each["problem"]["code"], each["problem"].get("field", "")) for each in problems]
    assert found == [
        ("invalid", ""),
        ("invalid", ""),
        ("invalid", "call"),
        ("invalid", "id"),
        ("invalid", ""),
        ("internal", ""),
        ("conflict", "name"),
        ("unavailable", ""),
    ]
    assert "ok" in last


async def test_a_line_that_is_too_long_ends_its_connection_only(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        async with caller(path) as (reader, writer):
            writer.write(b"x" * (LINE_LIMIT + 10) + b"\n")
            assert await reader.read() == b""
        assert "ok" in (await ask(path, call("echo")))[0]


async def test_a_caller_that_hangs_up_disturbs_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        async with caller(path) as (_, writer):
            writer.write(call("wait") + b"\n")
            await writer.drain()
        assert "ok" in (await ask(path, call("echo")))[0]


async def test_one_caller_too_many_hears_that_the_agent_is_busy(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "CALLERS", 2)
    async with served(tmp_path) as path, caller(path) as first, caller(path) as second:
        for reader, writer in (first, second):
            writer.write(call("echo") + b"\n")
            await reader.readline()
        async with caller(path) as (reader, _):
            assert json.loads(await reader.readline())["problem"]["code"] == "busy"
        second[1].close()
        await second[1].wait_closed()
        async with asyncio.timeout(30):
            while "problem" in (await ask(path, call("echo")))[0]:  # noqa: ASYNC110
                await asyncio.sleep(0)


async def test_only_root_may_open_it_and_a_former_agents_socket_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "agent.sock").write_text("left by a former agent")
    async with running(Socket(tmp_path / "run" / "agent.sock", Service().calls()).run):
        path = tmp_path / "run" / "agent.sock"
        await until(path.is_socket)
        await until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o600)
        assert "ok" in (await ask(path, call("echo")))[0]
    assert not path.exists()
