"""Tables over a real nats-server: deltas, interest, failover, and a server killed under load."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from cilia.bus import Bus, BusConfig, connect_bus
from cilia.contracts.distribution import Beacon, Delta
from cilia.contracts.tables import Table
from cilia.lifecycle import Loop, supervise
from cilia.table.publisher import TablePublisher
from cilia.table.subscriber import ALL, TableSubscriber
from cilia.table.wire import encode
from laboratory.servers import Server, start_nats

NUMBERS = Table[int, int]("numbers", "tests", int, int, lambda key: str(key % 16))


@asynccontextmanager
async def client(server: Server, name: str) -> AsyncIterator[Bus]:
    async with connect_bus(BusConfig(urls=(server.url,)), cluster="test", name=name) as bus:
        yield bus


@asynccontextmanager
async def running(*parts: "TablePublisher[int, int] | TableSubscriber[int, int]") -> AsyncIterator[None]:
    stop = asyncio.Event()
    loops: dict[str, Loop] = {}
    for number, part in enumerate(parts):
        if isinstance(part, TablePublisher):
            loops |= {f"{number}.{name}": loop for name, loop in part.loops().items()}
        else:
            loops[f"{number}.run"] = part.run
    task = asyncio.create_task(supervise(loops, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await task


def state(subscriber: TableSubscriber[int, int]) -> dict[int, int]:
    return {key: row for shard in subscriber.shards for key, row in subscriber.rows(shard).items()}


async def until_equal(subscribers: list[TableSubscriber[int, int]], rows: dict[int, int], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while any(state(each) != rows for each in subscribers):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_change_arrives_with_its_trace_and_only_where_its_shard_is_wanted() -> None:
    with start_nats() as server:
        async with client(server, "owner") as owner, client(server, "agent") as agent:
            publisher = TablePublisher(owner, NUMBERS)
            publisher.reset({1: 10, 2: 20}, 5, 1)
            publisher.lead()
            subscriber = TableSubscriber(agent, NUMBERS, {"1"})
            async with running(publisher, subscriber), asyncio.timeout(30):
                await subscriber.wait_complete()
                assert state(subscriber) == {1: 10}
                batches = subscriber.changes()
                assert [change.full for change in await anext(batches)] == [True]
                publisher.commit(6, {1: 11, 2: 21}, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
                [change] = await anext(batches)
                assert (change.shard, change.upserts, change.full) == ("1", {1: 11}, False)
                assert change.traceparent.startswith("00-11")
                await subscriber.wait_sequence("1", 6)
                subscriber.add_shard("2")
                [change] = await anext(batches)
                assert (change.upserts, change.full) == ({2: 21}, True)
                subscriber.drop_shard("1")
                [change] = await anext(batches)
                assert change.removes == {1}
                assert state(subscriber) == {2: 21}


async def test_an_unchanged_shard_advances_by_the_beacon_without_asking() -> None:
    with start_nats() as server:
        async with client(server, "owner") as owner, client(server, "agent") as agent:
            publisher = TablePublisher(owner, NUMBERS)
            publisher.reset({1: 10}, 5, 1)
            publisher.lead()
            subscriber = TableSubscriber(agent, NUMBERS, {"1"})
            async with running(publisher, subscriber), asyncio.timeout(30):
                await subscriber.wait_complete()
                asked = subscriber.counters.requests
                publisher.commit(9, {2: 1})
                await subscriber.wait_sequence("1", 9)
                assert subscriber.counters.requests == asked


async def test_a_big_table_comes_whole_and_a_big_delta_in_parts() -> None:
    with start_nats() as server:
        async with client(server, "owner") as owner, client(server, "agent") as agent:
            publisher = TablePublisher(owner, NUMBERS)
            rows = {key * 16: 1 << 40 for key in range(20_000)}
            publisher.reset(rows, 5, 1)
            publisher.lead()
            subscriber = TableSubscriber(agent, NUMBERS, ALL)
            async with running(publisher, subscriber), asyncio.timeout(60):
                await subscriber.wait_complete()
                assert state(subscriber) == rows
                rows = {key * 16: 1 << 41 for key in range(60_000)}
                publisher.commit(6, rows)
                await subscriber.wait_sequence("0", 6)
                assert state(subscriber) == rows


async def test_the_next_leader_continues_where_the_last_one_was_cut_off() -> None:
    with start_nats() as server:
        async with client(server, "a") as first, client(server, "b") as second, client(server, "agent") as agent:
            old, new = TablePublisher(first, NUMBERS), TablePublisher(second, NUMBERS)
            for publisher in (old, new):
                publisher.reset({1: 1}, 5, 1)
            old.lead()
            subscriber = TableSubscriber(agent, NUMBERS, ALL)
            async with running(old, new, subscriber), asyncio.timeout(30):
                await subscriber.wait_complete()
                asked = subscriber.counters.requests
                old.follow()
                for publisher in (old, new):
                    publisher.commit(6, {1: 2})
                new.lead()
                await until_equal([subscriber], {1: 2}, 30)
                assert subscriber.counters.requests == asked


async def test_a_new_epoch_replaces_everything_even_with_smaller_sequences() -> None:
    with start_nats() as server:
        async with client(server, "owner") as owner, client(server, "agent") as agent:
            publisher = TablePublisher(owner, NUMBERS)
            publisher.reset({1: 1, 2: 2}, 500, 1)
            publisher.lead()
            subscriber = TableSubscriber(agent, NUMBERS, ALL)
            async with running(publisher, subscriber), asyncio.timeout(30):
                await subscriber.wait_complete()
                publisher.reset({2: 3}, 7, 2)
                await until_equal([subscriber], {2: 3}, 30)
                assert subscriber.sequence("1") == 7


async def change_steadily(
    publishers: list[TablePublisher[int, int]], rows: dict[int, int], stop: asyncio.Event
) -> None:
    """Make 2,000 changes a second, in commits of 20."""
    source = random.Random(1)
    while not stop.is_set():
        upserts = {source.randrange(2000): source.randrange(100) for _ in range(18)}
        removes = {source.randrange(2000) for _ in range(2)} - upserts.keys()
        for key in removes:
            rows.pop(key, None)
        rows.update(upserts)
        sequence = publishers[0].changelog.sequence + 1
        for publisher in publishers:
            publisher.commit(sequence, upserts, removes)
        await asyncio.sleep(0.01)


@pytest.mark.chaos
async def test_fifty_subscribers_converge_after_the_server_is_killed_twice_under_load() -> None:
    rows = dict.fromkeys(range(2000), 0)
    with start_nats() as server:
        async with AsyncExitStack() as stack:
            publishers = [
                TablePublisher(await stack.enter_async_context(client(server, f"owner-{number}")), NUMBERS)
                for number in range(2)
            ]
            for publisher in publishers:
                publisher.reset(rows, 1, 1)
            publishers[0].lead()
            agents = [await stack.enter_async_context(client(server, f"agent-{number}")) for number in range(50)]
            subscribers = [TableSubscriber(agent, NUMBERS, ALL, random=random.Random(1)) for agent in agents]
            await stack.enter_async_context(running(*publishers, *subscribers))
            async with asyncio.timeout(60):
                for subscriber in subscribers:
                    await subscriber.wait_complete()
            stop = asyncio.Event()
            changing = asyncio.create_task(change_steadily(publishers, rows, stop))
            for _ in range(2):
                await asyncio.sleep(0.4)
                server.kill()
                await asyncio.sleep(0.2)
                server.start()
                await asyncio.sleep(0.4)
                publishers.reverse()
                publishers[0].lead()
                publishers[1].follow()
            stop.set()
            await changing
            await until_equal(subscribers, rows, 60)


@pytest.mark.parametrize("together", [True, False])
async def test_shards_that_change_together_are_handed_over_together(together: bool) -> None:
    """Their deltas come apart here, as over a slow wire; the beacon behind them says that all are
    there.
    """
    with start_nats() as server:
        async with client(server, "owner") as owner, client(server, "agent") as agent:
            publisher = TablePublisher(owner, NUMBERS)
            publisher.reset({1: 10, 2: 20}, 5, 1)
            publisher.lead()
            subscriber = TableSubscriber(agent, NUMBERS, {"1", "2"}, assembly_seconds=5)
            subjects = owner.subjects
            async with running(publisher, subscriber), asyncio.timeout(30):
                await subscriber.wait_complete()
                changes = subscriber.changes()
                await anext(changes)
                handed_over = asyncio.ensure_future(anext(changes))
                for key in (1, 2):
                    delta = Delta(1, 5, 6, ((key, key),), together=together)
                    await owner.publish(subjects.delta(NUMBERS, str(key)), encode(delta))
                    await owner.flush()
                    await asyncio.sleep(0.1)
                await owner.publish(subjects.beacon(NUMBERS), encode(Beacon(1, 5, 6, {"1": 6, "2": 6})))
                assert {change.shard for change in await handed_over} == ({"1", "2"} if together else {"1"})


async def test_who_holds_many_of_the_changed_shards_gets_them_in_one_message() -> None:
    with start_nats() as server:
        async with client(server, "owner") as owner, client(server, "agent") as agent, client(server, "other") as other:
            publisher = TablePublisher(owner, NUMBERS, subscribers_of=lambda shard: ("node1",) if shard != "9" else ())
            publisher.reset({1: 10, 2: 20, 9: 90}, 5, 1)
            publisher.lead()
            known = TableSubscriber(agent, NUMBERS, {"1", "2", "9"}, name="node1", assembly_seconds=5)
            unknown = TableSubscriber(other, NUMBERS, {"1", "2"})
            async with running(publisher, known, unknown), asyncio.timeout(30):
                await known.wait_complete()
                await unknown.wait_complete()
                changes = known.changes()
                await anext(changes)
                publisher.commit(6, {1: 11, 2: 21, 3: 31, 9: 91}, traceparent="a cause", together=True)
                together = await anext(changes)
                assert {(each.shard, each.sequence, each.traceparent) for each in together} == {
                    ("1", 6, "a cause"),
                    ("2", 6, "a cause"),
                }
                await until_equal([known], {1: 11, 2: 21, 9: 91}, 30)  # the rest, and who isn't known, by the beacon
                await until_equal([unknown], {1: 11, 2: 21}, 30)
                assert (publisher.counters.deltas, publisher.counters.delta_batches) == (4, 1)
