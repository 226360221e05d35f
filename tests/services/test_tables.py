"""The tables of identity and ipam as an agent hears them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cilia.contracts.ids import EndpointId, NodeName
from cilia.contracts.ipam import UnregisterNode
from cilia.contracts.messages import Revised
from cilia.contracts.tables import ENDPOINTS, IDENTITIES, NODES, POOLS, EndpointKey, Pool, Table
from cilia.lifecycle import supervise
from cilia.table.subscriber import ALL, TableSubscriber
from laboratory.services import Stage
from tests.services.ask import ask, publish, register

Subscriber = TableSubscriber[Any, Any]


@asynccontextmanager
async def subscribed(stage: Stage, *tables: Table[Any, Any]) -> AsyncIterator[tuple[Subscriber, ...]]:
    subscribers = tuple(TableSubscriber(stage.bus, table, ALL) for table in tables)
    stop = asyncio.Event()
    loops = {table.name: subscriber.run for table, subscriber in zip(tables, subscribers, strict=True)}
    running = asyncio.create_task(supervise(loops, stop=stop))
    try:
        yield subscribers
    finally:
        stop.set()
        await running


def rows(subscriber: Subscriber) -> dict[Any, Any]:
    return {key: row for shard in subscriber.shards for key, row in subscriber.rows(shard).items()}


async def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the condition is the test's own
            await asyncio.sleep(0.02)


async def test_rows_reach_subscribers_and_leave_with_their_node(stage: Stage) -> None:
    async with (
        stage.inside("ipam", pools="default=10.244.0.0/16/26"),
        stage.inside("identity"),
        subscribed(stage, NODES, POOLS, IDENTITIES, ENDPOINTS) as (nodes, pools, identities, endpoints),
    ):
        node = await register(stage.bus, "n1")
        published = await publish(stage.bus, "n1", 7, node.incarnation, "app=web", "tier=front")
        key = EndpointKey(NodeName("n1"), EndpointId(7))
        await until(lambda: rows(endpoints).get(key) == published.endpoint)
        await until(lambda: rows(nodes) == {"n1": node.node})
        await until(lambda: rows(pools) == {"default": Pool("10.244.0.0/16", 26)})
        identity = published.endpoint.identity
        await until(lambda: identity in rows(identities))
        assert rows(identities)[identity].labels == ("k8s:app=web", "k8s:tier=front")
        await ask(stage.bus, "ipam", "unregister", UnregisterNode(NodeName("n1")), Revised)
        await until(lambda: not rows(nodes) and not rows(endpoints))


async def test_publication_goes_on_when_the_leader_is_killed(stage: Stage) -> None:
    async with (
        stage.inside("ipam"),
        stage.service("identity", "a", election_seconds="1") as a,
        subscribed(stage, ENDPOINTS) as (endpoints,),
    ):
        incarnation = (await register(stage.bus, "n1")).incarnation
        await publish(stage.bus, "n1", 1, incarnation, "app=web")
        await until(lambda: len(rows(endpoints)) == 1)
        async with stage.inside("identity", "b", election_seconds="1"):
            await a.kill()
            await asyncio.gather(*(publish(stage.bus, "n1", number, incarnation, "app=web") for number in range(2, 50)))
            await until(lambda: len(rows(endpoints)) == 49)
