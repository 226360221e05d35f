"""The smallest HTTP that Prometheus and a kubelet need."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cilia.health import serve_health
from cilia.metrics import Metrics
from tests.fakes.clock import end


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(unhealthy: Callable[[], str] = lambda: "") -> AsyncIterator[int]:
    port, metrics = free_port(), Metrics()
    metrics.gauge("endpoints", "endpoints here", lambda: 7)
    task = asyncio.create_task(serve_health(f"127.0.0.1:{port}", metrics, unhealthy))
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.005)
    writer.close()
    await writer.wait_closed()
    try:
        yield port
    finally:
        await end(task)


async def send(port: int, request: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (b"GET /healthz HTTP/1.1", "200 OK", "ok\n"),
        (b"GET /healthz?verbose=1 HTTP/1.1", "200 OK", "ok\n"),
        (b"GET /metrics HTTP/1.1", "200 OK", "cilia_endpoints 7.0\n"),
        (b"GET / HTTP/1.1", "404 Not Found", "/metrics or /healthz\n"),
        (b"POST /healthz HTTP/1.1", "405 Method Not Allowed", "GET only\n"),
        (b"nonsense", "405 Method Not Allowed", "GET only\n"),
    ],
)
async def test_a_request_is_answered_by_method_and_path(line: bytes, status: str, body: str) -> None:
    async with serving() as port:
        answer = await send(port, line + b"\r\nHost: x\r\n\r\n")
    head, _, content = answer.partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert content.endswith(body)
    assert f"Content-Length: {len(content)}" in head


async def test_who_is_unhealthy_says_why() -> None:
    async with serving(lambda: "no state yet") as port:
        answer = await send(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 503 Service Unavailable")
    assert answer.endswith("\r\n\r\nno state yet\n")


async def test_who_sends_too_much_or_hangs_up_disturbs_nobody() -> None:
    async with serving() as port:
        assert await send(port, b"GET /" + b"x" * 100_000) == ""
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET ")
        writer.close()
        await writer.wait_closed()
        assert "200 OK" in await send(port, b"GET /healthz HTTP/1.1\r\n\r\n")


async def test_without_an_address_it_serves_nothing_until_cancelled() -> None:
    task = asyncio.create_task(serve_health("", Metrics(), lambda: ""))
    await asyncio.sleep(0)
    assert not task.done()
    await end(task)
