"""A change that concerns 1,000 agents: real service, kvstore and broker, agents that mirror and
acknowledge without a kernel.

The agents live in a process of their own, with a connection each. What a node takes comes from the
service's own record of the acknowledgements: from the acceptance of the change to the moment when
the agent has it.
"""

import asyncio
import multiprocessing
import tempfile
import time
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Final

import msgspec
import uvloop

from bench.policy_nodes import change
from bench.report import Figure, summarize
from cilia.bus import Bus, BusConfig, connect_bus
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.realisation import Acknowledgement
from cilia.contracts.tables import RESOLVED, PolicyEntry, SubjectKey
from cilia.kvstore import EtcdConfig, connect_kvstore
from cilia.lifecycle import supervise
from cilia.table.subscriber import TableSubscriber
from laboratory.servers import start_etcd, start_nats
from laboratory.services import Stage
from tests.services.ask import publish, register

AGENTS: Final = 1000
CHANGES: Final = 20
CLUSTER: Final = "bench"

Subscriber = TableSubscriber[SubjectKey, PolicyEntry]


async def _acknowledge(bus: Bus, node: NodeName, subscriber: Subscriber) -> None:
    """Tell of each change at once, until cancelled."""
    async for changes in subscriber.changes():
        subjects = {Identity(int(each.shard)): Revision(each.sequence) for each in changes}
        message = Acknowledgement(node, subjects, 1, time.time_ns())
        await bus.publish(bus.subjects.ack(node), msgspec.json.encode(message))


async def _run_agents(url: str, shard: str, pipe: Connection) -> None:
    async with AsyncExitStack() as stack:
        loops, subscribers = {}, []
        for number in range(AGENTS):
            node = NodeName(f"n{number}")
            bus = await stack.enter_async_context(connect_bus(BusConfig(urls=(url,)), cluster=CLUSTER, name=node))
            subscriber: Subscriber = TableSubscriber(bus, RESOLVED, {shard})
            subscribers.append(subscriber)
            loops[f"table {node}"] = subscriber.run
            loops[f"acknowledge {node}"] = lambda bus=bus, node=node, sub=subscriber: _acknowledge(bus, node, sub)  # type: ignore[misc]
        stop = asyncio.Event()
        running = asyncio.create_task(supervise(loops, stop=stop))
        await asyncio.gather(*(subscriber.wait_complete() for subscriber in subscribers))
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        stop.set()
        await running


def run_agents(url: str, shard: str, pipe: Connection) -> None:
    """Entry of the agents' process."""
    uvloop.run(_run_agents(url, shard, pipe))


async def measure_agents() -> list[Figure]:
    """Measure at all agents: each node of each change is a sample."""
    with (
        tempfile.TemporaryDirectory() as name,
        start_etcd(Path(name), durable=True) as etcd,
        start_nats(Path(name)) as nats,
    ):
        async with (
            connect_bus(BusConfig(urls=(nats.url,)), cluster=CLUSTER, name="bench") as bus,
            connect_kvstore(EtcdConfig(endpoints=(etcd.address,))) as kvstore,
        ):
            stage = Stage(CLUSTER, etcd, nats, Path(name), bus, kvstore)
            async with (
                stage.service("ipam"),
                stage.service("identity"),
                stage.service("policy"),
            ):
                return await _with_agents(bus, nats.url)


async def _with_agents(bus: Bus, url: str) -> list[Figure]:
    nodes = [(await register(bus, f"n{number}", f"192.0.2.{number}")).incarnation for number in range(AGENTS)]
    place = "k8s:io.kubernetes.pod.namespace=bench"
    labels = ("k8s:spread=yes", place)
    await publish(bus, "n0", 2, nodes[0], "k8s:app=client", place)
    rows = [(await publish(bus, f"n{at}", 1, node, *labels)).endpoint for at, node in enumerate(nodes)]
    here, there = multiprocessing.Pipe()
    arguments = (url, str(rows[0].identity), there)
    process = multiprocessing.get_context("spawn").Process(target=run_agents, args=arguments, daemon=True)
    process.start()
    await asyncio.to_thread(here.recv)
    samples, slowest = [], []
    for port in range(1, 1 + CHANGES):
        answer = await change(bus, "spread", port)
        assert answer.complete, answer.stragglers
        assert len(answer.nodes) == AGENTS
        samples += [node.milliseconds for node in answer.nodes]
        slowest.append(max(node.milliseconds for node in answer.nodes))
    here.send("stop")
    await asyncio.to_thread(process.join)
    tail = quantiles(samples, n=100)[98]
    return [
        summarize(f"policy.realised.{AGENTS}_agents.ms", "ms", samples),
        Figure(
            name=f"policy.realised.{AGENTS}_agents.p99_ms",
            value=tail,
            unit="ms",
            low=min(samples),
            high=max(samples),
            n=len(samples),
        ),
        summarize(f"policy.realised.{AGENTS}_agents.last_ms", "ms", slowest),
    ]
