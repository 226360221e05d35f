"""Real traffic between pods, hosts and the world: small servers, single attempts, and steady streams that count what is lost."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Final, cast

from cilia.cluster.machine import Machine

ATTEMPT_SECONDS: Final = 0.4
"""A packet between pods takes well under a millisecond; a drop answers nothing, so it costs the whole of it."""


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


class _UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._transport.sendto(data, address)


async def serve_udp(server: Machine, port: int) -> asyncio.DatagramTransport:
    """Send back whatever arrives on a UDP port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_UdpEcho, sock=server.listen(port, socket.SOCK_DGRAM))
    return transport


async def get(client: Machine, address: str, port: int, *, seconds: float = ATTEMPT_SECONDS) -> str | None:
    """Return the body of one HTTP request; None if it doesn't come through."""
    with closing(client.open_socket(socket.SOCK_STREAM)) as opened:
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
    with closing(client.open_socket(socket.SOCK_STREAM)) as opened:
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
    with closing(client.open_socket(socket.SOCK_DGRAM)) as opened:
        try:
            async with asyncio.timeout(seconds):
                await _exchange(opened, (address, port), os.urandom(size))
        except (TimeoutError, OSError):
            return False
    return True


async def reaches_icmp(client: Machine, address: str, *, seconds: float = ATTEMPT_SECONDS) -> bool:
    """Tell whether an echo request is answered."""
    identifier = os.getpid() & 0xFFFF
    header = struct.pack("!BBHHH", 8, 0, 0, identifier, 1)
    checksum = _checksum(header)
    request = struct.pack("!BBHHH", 8, 0, checksum, identifier, 1)
    with closing(client.open_socket(socket.SOCK_RAW, socket.IPPROTO_ICMP)) as opened:
        loop = asyncio.get_running_loop()
        opened.connect((address, 0))
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(opened, request)
                while True:
                    answer = (await loop.sock_recv(opened, 1500))[20:]
                    if answer[0] == 0 and answer[4:6] == header[4:6]:
                        return True
        except (TimeoutError, OSError):
            return False


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
    """Send numbered datagrams on one flow to an echo server all the while; the tally is final after the block."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    seen: set[bytes] = set()
    opened = client.open_socket(socket.SOCK_DGRAM)
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
