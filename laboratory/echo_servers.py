"""Small servers inside machines of a local cluster: HTTP by name, echoes by TCP and UDP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from laboratory.machine import Machine

LONGEST_DATAGRAM: Final = 65_535
PKTINFO_BYTES: Final = 20
"""``struct in6_pktinfo``: an address, and the index of a device."""


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
    """Server that sends datagrams back from the address to which they came: a host has several."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        asyncio.get_running_loop().add_reader(opened, self._answer)

    def close(self) -> None:
        """Stop answering."""
        if self._socket.fileno() >= 0:  # its machine may have closed it
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _answer(self) -> None:
        data, ancillary, _, sender = self._socket.recvmsg(LONGEST_DATAGRAM, socket.CMSG_SPACE(PKTINFO_BYTES))
        came_to = [(level, kind, value[:16] + bytes(4)) for level, kind, value in ancillary]  # by any device
        with suppress(OSError):
            self._socket.sendmsg([data], came_to, 0, sender)


@asynccontextmanager
async def echoing(
    machines: Iterable[Machine], *, tcp: Sequence[int] = (), udp: Sequence[int] = ()
) -> AsyncIterator[None]:
    """Have each machine send back what comes to its ports during the block."""
    async with AsyncExitStack() as stack:
        for machine in machines:
            stack.callback(machine.close)
            for port in tcp:
                await stack.enter_async_context(await serve_tcp(machine, port))
            for port in udp:
                stack.callback((await serve_udp(machine, port)).close)
        yield


async def serve_udp(server: Machine, port: int) -> UdpEcho:
    """Send back whatever arrives on a UDP port."""
    return UdpEcho(server.listen(port, socket.SOCK_DGRAM))
