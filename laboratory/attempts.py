"""Single attempts of one machine to reach another: HTTP, TCP, UDP, ICMP."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Final

from laboratory.machine import Machine

ATTEMPT_SECONDS: Final = 0.4
"""Time of one attempt: a packet between pods takes well under a millisecond, a drop all of it."""
SLICES: Final = 8


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Bound the block's time, as a sum of short waits.

    On a busy machine this process may not run for a while; an answer that has arrived meanwhile is
    not late.

    Raises:
        TimeoutError: The time is up.
    """
    async with asyncio.timeout(None) as bound:
        countdown = _Countdown(seconds / SLICES, lambda: bound.reschedule(0))
        try:
            yield
        finally:
            countdown.cancel()


class _Countdown:
    """Timer of several short waits."""

    def __init__(self, slice_seconds: float, end: Callable[[], None]) -> None:
        self._slice_seconds = slice_seconds
        self._end = end
        self._left = SLICES
        self._schedule()

    def cancel(self) -> None:
        """Stop counting."""
        self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._slice_seconds, self._tick)

    def _tick(self) -> None:
        self._left -= 1
        if self._left:
            self._schedule()
        else:
            self._end()


async def get(client: Machine, address: str, port: int, *, seconds: float = ATTEMPT_SECONDS) -> str | None:
    """Return the body of one HTTP request; None if it doesn't come through."""
    with closing(client.open_socket(socket.SOCK_STREAM, to=address)) as opened:
        try:
            async with patience(seconds):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(opened, (address, port))
                await loop.sock_sendall(opened, b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n")
                answer = b""
                while not answer.partition(b"\r\n\r\n")[2]:  # servers may send head and body apart
                    part = await loop.sock_recv(opened, 4096)
                    if not part:
                        return None
                    answer += part
        except (TimeoutError, OSError):
            return None
    return answer.partition(b"\r\n\r\n")[2].decode().strip()


async def reaches_tcp(client: Machine, address: str, port: int, *, seconds: float = ATTEMPT_SECONDS) -> bool:
    """Tell whether a TCP connection is made and bytes come back."""
    with closing(client.open_socket(socket.SOCK_STREAM, to=address)) as opened:
        try:
            async with patience(seconds):
                await _exchange(opened, (address, port), os.urandom(16))
        except (TimeoutError, OSError):
            return False
    return True


async def reaches_udp(
    client: Machine, address: str, port: int, *, size: int = 16, seconds: float = ATTEMPT_SECONDS
) -> bool:
    """Tell whether a datagram of ``size`` bytes comes back; a big one travels in fragments."""
    with closing(client.open_socket(socket.SOCK_DGRAM, to=address)) as opened:
        try:
            async with patience(seconds):
                await _exchange(opened, (address, port), os.urandom(size))
        except (TimeoutError, OSError):
            return False
    return True


async def reaches_icmp(client: Machine, address: str, *, seconds: float = ATTEMPT_SECONDS) -> bool:
    """Tell whether an echo request is answered."""
    identifier = os.getpid() & 0xFFFF
    echo = _ECHO_IPV6 if ":" in address else _ECHO_IPV4
    with closing(client.open_socket(socket.SOCK_RAW, echo.protocol, to=address)) as opened:
        loop = asyncio.get_running_loop()
        opened.connect((address, 0))
        try:
            async with patience(seconds):
                await loop.sock_sendall(opened, echo.request(identifier))
                while True:
                    answer = (await loop.sock_recv(opened, 1500))[echo.header_bytes :]
                    if answer[0] == echo.answer and int.from_bytes(answer[4:6]) == identifier:
                        return True
        except (TimeoutError, OSError):
            return False


@dataclass(frozen=True, slots=True)
class _Echo:
    """Echo messages of a family, and where a raw socket shows the answer."""

    protocol: int
    question: int
    answer: int
    header_bytes: int

    def request(self, identifier: int) -> bytes:
        """Return the message; in that of IPv6 the kernel fills the checksum in."""
        checksum = _checksum(struct.pack("!BBHHH", self.question, 0, 0, identifier, 1))
        return struct.pack("!BBHHH", self.question, 0, checksum, identifier, 1)


_ECHO_IPV4: Final = _Echo(socket.IPPROTO_ICMP, question=8, answer=0, header_bytes=20)
_ECHO_IPV6: Final = _Echo(socket.IPPROTO_ICMPV6, question=128, answer=129, header_bytes=0)


async def _exchange(opened: socket.socket, address: tuple[str, int], message: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(opened, address)
    await loop.sock_sendall(opened, message)
    received = b""
    while len(received) < len(message):
        part = await loop.sock_recv(opened, 65536)
        if not part:
            raise ConnectionResetError
        received += part
    if received != message:
        raise ConnectionError("the echo is not what was sent")


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return int(~(total + (total >> 16)) & 0xFFFF)
