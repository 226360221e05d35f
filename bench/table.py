"""Times until a table's change, and a whole table, have reached 500 agents.

The agents live in a process of their own, with a connection each; the owner and the clock that both
read (CLOCK_MONOTONIC, one machine) in this one. Run: ``python -m bench.table [--json]``.
"""

import asyncio
import multiprocessing
import time
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Final

import uvloop

from bench.report import Figure, report, summarize
from cilia.bus import BusConfig, connect_bus
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import ENDPOINTS, Endpoint, EndpointKey
from cilia.lifecycle import supervise
from cilia.table.publisher import TablePublisher
from cilia.table.subscriber import ALL, TableSubscriber
from laboratory.servers import start_nats

AGENTS: Final = 500
COMMITS: Final = 60
BURST: Final = 1000
"""Rows of the burst that is committed one by one."""
SNAPSHOT_ROWS: Final = 100_000

Subscriber = TableSubscriber[EndpointKey, Endpoint]


def endpoint(number: int, version: int = 0) -> tuple[EndpointKey, Endpoint]:
    """Return a row of a cluster with 100 pods a node."""
    node, id_ = NodeName(f"node-{number // 100}"), EndpointId(number % 100 + 1)
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return EndpointKey(node, id_), Endpoint(node, id_, Identity(256 + version), address, "", "default", f"pod-{number}")


async def _run_agents(url: str, pipe: Connection) -> None:
    """Run the agents; after ``sequence`` from the pipe, answer when the last of them has it in its
    rows.
    """
    shard = ENDPOINTS.shard(endpoint(0)[0])
    async with AsyncExitStack() as stack:
        agents: list[Subscriber] = []
        for number in range(AGENTS):
            config = BusConfig(urls=(url,))
            bus = await stack.enter_async_context(connect_bus(config, cluster="bench", name=f"agent-{number}"))
            agents.append(TableSubscriber(bus, ENDPOINTS, {shard}))
        stop = asyncio.Event()
        loops = {f"agent-{number}": agent.run for number, agent in enumerate(agents)}
        running = asyncio.create_task(supervise(loops, stop=stop))
        await asyncio.gather(*(agent.wait_complete() for agent in agents))
        pipe.send(time.monotonic())
        while sequence := await asyncio.to_thread(pipe.recv):
            await asyncio.gather(*(_applied(agent, shard, sequence) for agent in agents))
            pipe.send(time.monotonic())
        stop.set()
        await running


async def _applied(agent: Subscriber, shard: str, sequence: int) -> None:
    """Wait until a row with this version is there: an advance by beacon does not count."""
    key, _ = endpoint(0)
    async for _ in agent.changes():
        row = agent.rows(shard).get(key)
        if row is not None and row.identity - 256 >= sequence:
            return


def run_agents(url: str, pipe: Connection) -> None:
    """Entry of the agents' process."""
    uvloop.run(_run_agents(url, pipe))


async def measure_deltas(url: str) -> list[Figure]:
    """Measure from a commit to the last agent's row."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run_agents, args=(url, there))
    async with connect_bus(BusConfig(urls=(url,)), cluster="bench", name="owner") as bus:
        publisher = TablePublisher(bus, ENDPOINTS)
        publisher.reset(dict([endpoint(0)]), 1, 1)
        publisher.lead()
        stop = asyncio.Event()
        running = asyncio.create_task(supervise(publisher.loops(), stop=stop))
        process.start()
        await asyncio.to_thread(here.recv)
        single, burst, sequence = [], [], 1
        for _ in range(COMMITS):
            await asyncio.sleep(0.05)
            sequence += 1
            single.append(await _once(publisher, here, sequence, 1))
        for _ in range(5):
            sequence += BURST
            burst.append(await _once(publisher, here, sequence, BURST))
        here.send(0)
        stop.set()
        await running
        await asyncio.to_thread(process.join)
    ordered = sorted(single)
    p99 = Figure(
        name="table.delta.500_agents.p99_ms",
        value=ordered[int(len(ordered) * 0.99)],
        unit="ms",
        low=ordered[0],
        high=ordered[-1],
        n=len(ordered),
    )
    return [
        summarize("table.delta.500_agents.ms", "ms", single),
        p99,
        summarize("table.burst_of_1000_commits.500_agents.ms", "ms", burst),
    ]


async def _once(
    publisher: TablePublisher[EndpointKey, Endpoint], pipe: Connection, sequence: int, commits: int
) -> float:
    pipe.send(sequence)
    await asyncio.sleep(0.02)
    begin = time.monotonic()
    for at in range(sequence - commits + 1, sequence + 1):
        publisher.commit(at, dict([endpoint(0, at)]))
        if at % 50 == 0:
            await asyncio.sleep(0)
    end: float = await asyncio.to_thread(pipe.recv)
    return (end - begin) * 1000


async def measure_snapshot(url: str) -> list[Figure]:
    """Measure a whole table to one subscriber, rows already encoded (the second to ask), both ends
    in this process.
    """
    rates = []
    async with connect_bus(BusConfig(urls=(url,)), cluster="bench2", name="owner") as bus:
        publisher = TablePublisher(bus, ENDPOINTS)
        publisher.reset(dict(endpoint(number) for number in range(SNAPSHOT_ROWS)), 1, 1)
        stop = asyncio.Event()
        running = asyncio.create_task(supervise(publisher.loops(), stop=stop))
        for number in range(4):
            async with connect_bus(BusConfig(urls=(url,)), cluster="bench2", name=f"agent-{number}") as mine:
                subscriber: Subscriber = TableSubscriber(mine, ENDPOINTS, ALL)
                halt = asyncio.Event()
                begin = time.monotonic()
                task = asyncio.create_task(supervise({"run": subscriber.run}, stop=halt))
                await subscriber.wait_complete()
                rates.append(SNAPSHOT_ROWS / (time.monotonic() - begin))
                halt.set()
                await task
        stop.set()
        await running
    return [summarize("table.snapshot.rows_per_second", "rows/s", rates[1:])]


def main() -> None:
    """Measure and report."""
    with start_nats() as server:
        report(uvloop.run(measure_deltas(server.url)) + uvloop.run(measure_snapshot(server.url)))


if __name__ == "__main__":
    main()
