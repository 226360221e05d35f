"""``/healthz`` and ``/metrics`` over the smallest HTTP that Prometheus and a kubelet need: GET,
answer, close.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from cilia.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"


async def serve_health(listen: str, metrics: Metrics, unhealthy: Callable[[], str]) -> None:
    """Answer on ``listen`` (``host:port``; empty: idle) until cancelled.

    Args:
        unhealthy: Returns why the process can't do its work, or an empty text.
    """
    if not listen:
        await asyncio.Event().wait()
    host, _, port = listen.rpartition(":")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(head, metrics, unhealthy))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            log.debug("dropped a health request: %s", error)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host.strip("[]"), int(port), limit=8192)
    async with server:
        await server.serve_forever()


def _respond(head: bytes, metrics: Metrics, unhealthy: Callable[[], str]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    match (method, path):
        case (b"GET", b"/metrics"):
            return _response(HTTPStatus.OK, PROMETHEUS, metrics.prometheus())
        case (b"GET", b"/healthz"):
            reason = unhealthy()
            status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
            return _response(status, TEXT, (reason or "ok").encode() + b"\n")
        case (b"GET", _):
            return _response(HTTPStatus.NOT_FOUND, TEXT, b"/metrics or /healthz\n")
        case _:
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"GET only\n")


def _response(status: HTTPStatus, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
