"""Rates of the kvstore client on a real etcd on this disk: a write is an fsync, or a share of one.

Run: ``python -m bench.kvstore [--json]``. Values have 200 bytes.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Final

import uvloop

from bench.report import Figure, report, summarize
from cilia.kvstore import Etcd, EtcdConfig, Txn, absent, connect_kvstore, put
from cilia.kvstore.channel import Channel
from cilia.kvstore.schema import message
from laboratory.servers import start_etcd

ROUNDS: Final = 5
CALLERS: Final = 64
VALUE: Final = bytes(200)
RANGE_KEYS: Final = 100_000
WATCHED: Final = 20_000

_numbers: Iterator[int] = count()


def _new_key() -> str:
    return f"bench/{next(_numbers):09}"


async def _rate(work: Callable[[], Awaitable[object]], callers: int, times: int) -> float:
    """Return how often ``work`` is done each second by ``callers``, who each wait for one before
    the next.
    """

    async def call() -> None:
        for _ in range(times):
            await work()

    begin = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return callers * times / (time.perf_counter() - begin)


async def measure_writes(etcd: Etcd, channel: Channel) -> list[Figure]:
    """Measure puts one by one and by many callers, with group commit and past it, and creations."""

    async def write() -> None:
        await etcd.put(_new_key(), VALUE)

    async def write_alone() -> None:
        request = message("PutRequest")(key=_new_key().encode(), value=VALUE)
        await channel.call("KV/Put", request, "PutResponse", idempotent=False)

    async def create() -> None:
        key = _new_key()
        assert (await etcd.txn(Txn((absent(key),), (put(key, VALUE),)))).succeeded

    figures = []
    for name, work, callers, times in (
        ("put.sequential", write, 1, 500),
        (f"put.{CALLERS}_callers", write, CALLERS, 100),
        (f"put.{CALLERS}_callers.ungrouped", write_alone, CALLERS, 50),
        (f"create.{CALLERS}_callers", create, CALLERS, 100),
        ("create.300_callers", create, 300, 20),
    ):
        rates = [await _rate(work, callers, times) for _ in range(ROUNDS)]
        figures.append(summarize(f"kvstore.{name}.per_second", "1/s", rates))
    return figures


async def measure_reads(etcd: Etcd) -> list[Figure]:
    """Measure reading everything below a prefix."""
    await etcd.put_many((f"range/{number:07}", VALUE) for number in range(RANGE_KEYS))
    rates = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        records, _ = await etcd.range("range/")
        rates.append(len(records) / (time.perf_counter() - begin))
    return [summarize(f"kvstore.range.{RANGE_KEYS}_keys.keys_per_second", "keys/s", rates)]


async def measure_watch(etcd: Etcd) -> list[Figure]:
    """Measure rates of events of large transactions, and the time from a lone put to its event."""
    rates, delays = [], []
    _, revision = await etcd.range("watch/")
    async with aclosing(etcd.watch("watch/", revision + 1)) as batches:
        for turn in range(ROUNDS):
            begin, seen = time.perf_counter(), 0
            writing = asyncio.create_task(etcd.put_many((f"watch/{turn}/{at}", VALUE) for at in range(WATCHED)))
            while seen < WATCHED:
                seen += len((await anext(batches)).events)
            rates.append(WATCHED / (time.perf_counter() - begin))
            await writing
        for _ in range(200):
            begin = time.perf_counter()
            last = await etcd.put("watch/one", VALUE)
            while (await anext(batches)).revision < last:
                pass
            delays.append((time.perf_counter() - begin) * 1000)
    return [
        summarize("kvstore.watch.events_per_second", "events/s", rates),
        summarize("kvstore.watch.put_to_event.ms", "ms", delays),
    ]


async def measure(config: EtcdConfig) -> list[Figure]:
    """Measure everything over one connection."""
    channel = Channel(config)
    try:
        async with connect_kvstore(config) as etcd:
            return [*await measure_writes(etcd, channel), *await measure_reads(etcd), *await measure_watch(etcd)]
    finally:
        await channel.close()


def main() -> None:
    """Measure and report."""
    with (
        tempfile.TemporaryDirectory(prefix="cilia-bench-") as directory,
        start_etcd(Path(directory), durable=True) as server,
    ):
        report(uvloop.run(measure(EtcdConfig(endpoints=(server.address,)))))


if __name__ == "__main__":
    main()
