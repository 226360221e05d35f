"""Large transfer over one TCP connection, with a digest at either end.

Run in threads with blocking sockets, so that the bytes, not the event loop, are what takes the
time.
"""

import asyncio
import hashlib
import os
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from laboratory.machine import Machine

CHUNK_BYTES: Final = 1 << 20
PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """Outcome of a transfer."""

    sent: str
    """SHA-256 of what was sent, in hex."""
    received: str
    """SHA-256 of what was received, in hex."""
    bytes_received: int
    seconds: float


async def transfer(client: Machine, server: Machine, address: str, port: int, *, megabytes: int) -> Transfer:
    """Send ``megabytes`` (of 2**20 bytes) from the client to the server, which listens on ``port``
    for it.

    Raises:
        OSError: The connection isn't made, or breaks, or nothing arrives for a while
            (TimeoutError).
    """
    with (
        closing(server.listen(port)) as listening,
        closing(client.open_socket(socket.SOCK_STREAM, to=address)) as sending,
    ):
        for opened in (listening, sending):
            opened.settimeout(PATIENCE_SECONDS)
        began = time.perf_counter()
        receiving = asyncio.create_task(asyncio.to_thread(_receive, listening))
        try:
            sent = await asyncio.to_thread(_send, sending, (address, port), megabytes)
        finally:
            sending.close()
            received, size = await receiving
    return Transfer(sent, received, size, time.perf_counter() - began)


def _send(opened: socket.socket, address: tuple[str, int], megabytes: int) -> str:
    digest, chunk = hashlib.sha256(), bytearray(os.urandom(CHUNK_BYTES))
    opened.connect(address)
    for number in range(megabytes):
        chunk[:8] = number.to_bytes(8, "big")
        digest.update(chunk)
        opened.sendall(chunk)
    opened.shutdown(socket.SHUT_WR)
    opened.recv(1)  # the other end has read it all
    return digest.hexdigest()


def _receive(listening: socket.socket) -> tuple[str, int]:
    digest, size, buffer = hashlib.sha256(), 0, bytearray(CHUNK_BYTES)
    opened, _ = listening.accept()
    with closing(opened):
        opened.settimeout(PATIENCE_SECONDS)
        while count := opened.recv_into(buffer):
            digest.update(memoryview(buffer)[:count])
            size += count
    return digest.hexdigest(), size
