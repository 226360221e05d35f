"""Real traffic between pods, hosts and the world: small servers, single attempts, and steady
streams that count what is lost.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Final

from laboratory.machine import Machine

ATTEMPT_SECONDS: Final = 0.4
"""A packet between pods takes well under a millisecond; a drop answers nothing, so it costs the
whole of it.
"""
LONGEST_DATAGRAM: Final = 65_535
PKTINFO_BYTES: Final = 20
"""``struct in6_pktinfo``: the address, and the index of a device."""


async def serve_http(server: Machine, port: int) -> "asyncio.Server":
    """Answer every HTTP request to a port with the server's name."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = f"{server.name}\n".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    return await asyncio.start_server(answer, sock=server.listen(port))


async def serve_tcp(server: Machine, port: int) -> "asyncio.Server":
    """Send back whatever arrives on a TCP port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    return await asyncio.start_server(echo, sock=server.listen(port))


class UdpEcho:
    """Sends back what arrives on a UDP port, from the address to which it came: a host has several."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        asyncio.get_running_loop().add_reader(opened, self._answer)

    def close(self) -> None:
        """Answer no more."""
        if self._socket.fileno() >= 0:  # its machine may have closed it
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _answer(self) -> None:
        data, ancillary, _, sender = self._socket.recvmsg(LONGEST_DATAGRAM, socket.CMSG_SPACE(PKTINFO_BYTES))
        came_to = [(level, kind, value[:16] + bytes(4)) for level, kind, value in ancillary]  # by any device
        with suppress(OSError):
            self._socket.sendmsg([data], came_to, 0, sender)


async def serve_udp(server: Machine, port: int) -> UdpEcho:
    """Send back whatever arrives on a UDP port."""
    return UdpEcho(server.listen(port, socket.SOCK_DGRAM))


async def get(client: Machine, address: str, port: int, *, seconds: float = ATTEMPT_SECONDS) -> str | None:
    """Return the body of one HTTP request; None if it doesn't come through."""
    with closing(client.open_socket(socket.SOCK_STREAM, to=address)) as opened:
        try:
            async with asyncio.timeout(seconds):
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
            async with asyncio.timeout(seconds):
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
            async with asyncio.timeout(seconds):
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
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(opened, echo.request(identifier))
                while True:
                    answer = (await loop.sock_recv(opened, 1500))[echo.header_bytes :]
                    if answer[0] == echo.answer and int.from_bytes(answer[4:6]) == identifier:
                        return True
        except (TimeoutError, OSError):
            return False


@dataclass(frozen=True, slots=True)
class _Echo:
    """How a family asks whether somebody is there, and how a raw socket shows the answer."""

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


@dataclass(slots=True)
class Tally:
    """What became of a stream's packets."""

    sent: int = 0
    received: int = 0

    @property
    def lost(self) -> int:
        """Packets that were sent and never came back."""
        return self.sent - self.received


@asynccontextmanager
async def steady_udp(client: Machine, address: str, port: int, *, per_second: int = 500) -> AsyncIterator[Tally]:
    """Send numbered datagrams on one flow to an echo server all the while; the tally is final after
    the block.
    """
    loop = asyncio.get_running_loop()
    tally = Tally()
    seen: set[bytes] = set()
    opened = client.open_socket(socket.SOCK_DGRAM, to=address)
    opened.connect((address, port))

    async def send() -> None:
        while True:
            await loop.sock_sendall(opened, tally.sent.to_bytes(8, "big"))
            tally.sent += 1
            await asyncio.sleep(1 / per_second)

    async def receive() -> None:
        while True:
            seen.add(await loop.sock_recv(opened, 64))
            tally.received = len(seen)

    with closing(opened):
        receiving, sending = asyncio.create_task(receive()), asyncio.create_task(send())
        try:
            yield tally
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await asyncio.sleep(0.3)  # what is still on its way
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
