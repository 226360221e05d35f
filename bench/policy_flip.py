"""From denied to allowed, as packets see it: a datagram every 0.2 ms from a pod on one node to a
pod on another.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bench.report import Figure, summarize
from laboratory.pod import Pod

FLIPS: Final = 50
UDP_PORT: Final = 5353
SEND_SECONDS: Final = 0.0002
QUIET_SECONDS: Final = 0.05
"""Silence after a denial, for what was under way then."""


@contextmanager
def _stream(client: Pod, server: Pod) -> Iterator[None]:
    """Send datagrams at a steady pace for the block, in a thread of its own."""
    stop = threading.Event()

    def send() -> None:
        with client.open_socket(socket.SOCK_DGRAM) as outgoing:
            while not stop.wait(SEND_SECONDS):
                try:
                    outgoing.sendto(b"flip", (server.ipv4, UDP_PORT))
                except BlockingIOError:
                    continue

    sender = threading.Thread(target=send, name="flip sender")
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


def _first_arrival(incoming: socket.socket, seconds: float) -> float | None:
    """Return when the next datagram comes (monotonic clock, in s); None if none does in time."""
    incoming.settimeout(seconds)
    try:
        incoming.recv(64)
    except TimeoutError:
        return None
    return time.monotonic()


def _drain(incoming: socket.socket) -> None:
    incoming.setblocking(False)
    try:
        while True:
            incoming.recv(64)
    except BlockingIOError:
        return


async def measure_flip(
    client: Pod, server: Pod, *, deny: Callable[[], Awaitable[None]], allow: Callable[[], Awaitable[None]]
) -> Figure:
    """Measure from the start of the request that allows until the first datagram has come through.

    Args:
        deny: Returns when it is in force.
        allow: The request; what it waits for is no part of the figure.
    """
    incoming = server.listen(UDP_PORT, socket.SOCK_DGRAM)
    times = []
    with _stream(client, server):
        for _ in range(FLIPS):
            await deny()
            await asyncio.sleep(QUIET_SECONDS)
            _drain(incoming)
            assert await asyncio.to_thread(_first_arrival, incoming, QUIET_SECONDS) is None, "denied, and yet it came"
            arrival = asyncio.create_task(asyncio.to_thread(_first_arrival, incoming, 5.0))
            await asyncio.sleep(0.005)
            started = time.monotonic()
            await allow()
            arrived = await arrival
            assert arrived is not None, "allowed, and nothing came"
            times.append((arrived - started) * 1e3)
    return summarize("policy.flip.udp.ms", "ms", times)
