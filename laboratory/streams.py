"""Steady traffic during a change, with tallies of what was lost."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Final

from laboratory.attempts import reaches_tcp
from laboratory.machine import Machine
from laboratory.wait import POLL_SECONDS, wait_until

SILENT_SECONDS: Final = 0.3
"""Time after which answers to a stream that had none are not expected any more."""
LATE_SECONDS: Final = 2.0
"""Time without an answer after which those that are missing are lost."""


@dataclass(slots=True)
class Tally:
    """Packets of a stream, or attempts: how many were sent, how many came back."""

    sent: int = 0
    received: int = 0
    newest: int = -1
    """Number of the newest packet that came back; packets are numbered from 0."""

    @property
    def lost(self) -> int:
        """Packets that were sent and never came back."""
        return self.sent - self.received

    async def wait_for_more(self, count: int) -> None:
        """Wait until so many more packets are sent, however long this machine takes."""
        enough = self.sent + count
        await wait_until(lambda: self.sent >= enough)

    async def settle(self) -> None:
        """Wait until what was sent is back: all of it, the newest, or what comes after a while."""
        quiet_seconds, received = 0.0, self.received
        while self.newest < self.sent - 1 and quiet_seconds < (LATE_SECONDS if received else SILENT_SECONDS):
            await asyncio.sleep(POLL_SECONDS)
            quiet_seconds = quiet_seconds + POLL_SECONDS if self.received == received else 0.0
            received = self.received
        if self.lost:
            await asyncio.sleep(SILENT_SECONDS)  # those behind the newest, if two processors changed their order


@asynccontextmanager
async def steady_udp(client: Machine, address: str, port: int, *, per_second: int = 500) -> AsyncIterator[Tally]:
    """Send numbered datagrams on one flow to an echo server; the tally is final after the block."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    seen: set[int] = set()
    opened = client.open_socket(socket.SOCK_DGRAM, to=address)
    opened.connect((address, port))

    async def send() -> None:
        while True:
            await loop.sock_sendall(opened, tally.sent.to_bytes(8, "big"))
            tally.sent += 1
            await asyncio.sleep(1 / per_second)

    async def receive() -> None:
        while True:
            number = int.from_bytes(await loop.sock_recv(opened, 64), "big")
            seen.add(number)
            tally.received, tally.newest = len(seen), max(tally.newest, number)

    with closing(opened):
        receiving, sending = asyncio.create_task(receive()), asyncio.create_task(send())
        try:
            yield tally
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await tally.settle()
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)


@asynccontextmanager
async def steady_connections(
    client: Machine, address: str, port: int, *, per_second: int = 100
) -> AsyncIterator[Tally]:
    """Open one new TCP connection after the other, each with an echo; a failed one counts as lost.

    A SYN that is dropped would be sent again after a second, so an attempt gets less than that.
    """
    tally = Tally()

    async def attempt() -> None:
        while True:
            tally.sent += 1
            tally.received += await reaches_tcp(client, address, port, seconds=0.9)
            await asyncio.sleep(1 / per_second)

    attempting = asyncio.create_task(attempt())
    try:
        yield tally
    finally:
        attempting.cancel()
        await asyncio.gather(attempting, return_exceptions=True)
        tally.sent = max(tally.sent - 1, tally.received)  # the attempt that was cut short tells nothing
