"""Rate of identities allocated over the bus, each durable in etcd before the answer.

64 requesters, one replica of each service, one broker and one etcd, all on this machine. Run:
``python -m bench.identity [--json]``.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import uvloop

from bench.report import Figure, report, summarize
from cilia.bus import BusConfig, connect_bus
from cilia.contracts.ids import Incarnation
from cilia.kvstore import EtcdConfig, connect_kvstore
from laboratory.servers import start_etcd, start_nats
from laboratory.services import Stage
from tests.services.ask import allocate, publish, register

REQUESTERS: Final = 64
ROUNDS: Final = 5
REQUESTS: Final = 2_000
"""Figures of one round."""


async def measure(stage: Stage, incarnation: Incarnation) -> list[Figure]:
    """Return the rates of new label sets, of known ones, and of endpoints of known ones."""
    numbers = count()

    async def make(number: int) -> None:
        await allocate(stage.bus, "n1", f"app=a{number}")

    async def join(number: int) -> None:
        await allocate(stage.bus, f"holder-{number}", f"app=a{number % 1000}")

    async def place(number: int) -> None:
        await publish(stage.bus, "n1", 1 + number % 32_768, incarnation, f"app=a{number % 1000}")

    figures = []
    for name, request in (
        ("identity.allocate.per_s", make),
        ("identity.allocate_known.per_s", join),
        ("identity.publish.per_s", place),
    ):
        rates = [await _rate(request, numbers) for _ in range(ROUNDS)]
        figures.append(summarize(name, "1/s", rates))
    return figures


async def _rate(request: Callable[[int], Awaitable[None]], numbers: Iterator[int]) -> float:
    left = iter(range(REQUESTS))

    async def requester() -> None:
        for _ in left:
            await request(next(numbers))

    started = time.perf_counter()
    await asyncio.gather(*(requester() for _ in range(REQUESTERS)))
    return REQUESTS / (time.perf_counter() - started)


async def main() -> None:
    """Start everything, measure, print."""
    with (
        tempfile.TemporaryDirectory() as name,
        start_etcd(Path(name), durable=True) as etcd,
        start_nats(Path(name)) as nats,
    ):
        async with (
            connect_bus(BusConfig(urls=(nats.url,)), cluster="bench", name="bench") as bus,
            connect_kvstore(EtcdConfig(endpoints=(etcd.address,))) as kvstore,
        ):
            stage = Stage("bench", etcd, nats, Path(name), bus, kvstore)
            async with stage.service("ipam"), stage.service("identity"):
                incarnation = (await register(bus, "n1")).incarnation
                report(await measure(stage, incarnation))


if __name__ == "__main__":
    uvloop.run(main())
