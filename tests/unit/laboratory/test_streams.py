"""Steady streams and their tallies, over loopback: what is lost and what is only late."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from laboratory import attempts, streams
from laboratory.attempts import SLICES, patience, reaches_tcp, reaches_udp
from laboratory.machine import Machine
from laboratory.streams import Tally, steady_connections, steady_udp

HERE = "127.0.0.1"


class Loopback(Machine):
    """This machine, without a namespace of its own."""

    def open_socket(self, kind: socket.SocketKind, protocol: int = 0, *, to: str = "") -> socket.socket:
        opened = socket.socket(socket.AF_INET, kind, protocol)
        opened.setblocking(False)
        return opened


CLIENT = Loopback(name="here", ipv4=HERE, network="")


class Echo(asyncio.DatagramProtocol):
    """Sends back all datagrams but those that a test wants to lose."""

    def __init__(self, loses: set[int]) -> None:
        self._loses = loses
        self._number = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if self._number not in self._loses:
            self._transport.sendto(data, address)
        self._number += 1


@asynccontextmanager
async def echo(*loses: int) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Echo(set(loses)), (HERE, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_a_stream_that_is_answered_loses_nothing() -> None:
    async with echo() as port, steady_udp(CLIENT, HERE, port, per_second=2000) as tally:
        await tally.wait_for_more(20)
    assert tally.sent >= 20
    assert (tally.lost, tally.newest) == (0, tally.sent - 1)


async def test_what_is_not_answered_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.05)
    async with echo(3, 4) as port, steady_udp(CLIENT, HERE, port, per_second=2000) as tally:
        await tally.wait_for_more(20)
    assert tally.lost == 2


async def test_an_answer_that_comes_after_the_block_still_counts() -> None:
    tally = Tally(sent=5, received=3, newest=2)

    async def come_late() -> None:
        for number in (3, 4):
            await asyncio.sleep(0.05)
            tally.received, tally.newest = number + 1, number

    late = asyncio.create_task(come_late())
    await tally.settle()
    await late
    assert tally.lost == 0


async def test_nothing_is_waited_for_that_was_never_sent() -> None:
    async with asyncio.timeout(5):
        await Tally().settle()


async def test_connections_are_counted_and_the_one_cut_short_is_not() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(64))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, HERE, 0)
    async with server:
        async with steady_connections(CLIENT, HERE, server.sockets[0].getsockname()[1], per_second=1000) as tally:
            await tally.wait_for_more(5)
        await asyncio.sleep(0.05)  # the server's side of the one that was cut short
    assert tally.sent >= 4
    assert tally.lost == 0


async def test_who_refuses_or_does_not_answer_is_not_reached() -> None:
    with socket.socket() as bound, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        bound.bind((HERE, 0))
        assert not await reaches_tcp(CLIENT, HERE, bound.getsockname()[1], seconds=5)
        silent.bind((HERE, 0))
        assert not await reaches_udp(CLIENT, HERE, silent.getsockname()[1], seconds=0.05)


async def test_a_process_that_does_not_run_for_a_while_loses_one_slice_of_its_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: now)
    rounds = 0

    async def run_late() -> None:
        nonlocal now, rounds
        async with patience(SLICES * 1.0):
            while True:
                now += 50.0  # every turn of the loop comes later than the whole patience
                rounds += 1
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await run_late()
    assert rounds >= SLICES


async def test_who_is_done_in_time_is_not_interrupted() -> None:
    async with patience(attempts.ATTEMPT_SECONDS):
        pass
    await asyncio.sleep(0)
