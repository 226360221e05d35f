"""Replicas and elections against a real etcd."""

import asyncio
from contextlib import aclosing

from cilia.kvstore import Changes, Election, Etcd, EtcdConfig, Reset, connect_kvstore, replicate
from laboratory.servers import Server


async def test_a_replica_starts_with_everything_and_goes_on_with_changes(etcd: Etcd) -> None:
    await etcd.put("m/a/1", b"x")
    await etcd.put("m/c/1", b"unwanted")
    async with aclosing(replicate(etcd, "m/", ("m/a/", "m/b/"))) as steps:
        reset = await anext(steps)
        assert isinstance(reset, Reset)
        assert [record.key for record in reset.records] == ["m/a/1"]
        await etcd.put("m/c/2", b"unwanted")
        await etcd.put("m/b/1", b"y")
        await etcd.delete("m/a/1")
        seen: list[tuple[str, bool]] = []
        previous = reset.revision
        while len(seen) < 2:
            changes = await anext(steps)
            assert isinstance(changes, Changes)
            assert changes.previous == previous
            previous = changes.revision
            seen += [(event.key, event.removed) for event in changes.events]
        assert seen == [("m/b/1", False), ("m/a/1", True)]


async def test_a_replica_reads_again_when_its_history_was_compacted(etcd: Etcd) -> None:
    await etcd.put("m/gone", b"x")
    async with asyncio.timeout(60), aclosing(replicate(etcd, "m/", ("m/",))) as steps:
        await anext(steps)  # its watch opens with the next step only: what follows happens while it is away
        await etcd.delete("m/gone")
        for number in range(5):
            last = await etcd.put(f"m/{number}", b"y")
        await etcd.compact(last)
        reset = await anext(steps)
        assert isinstance(reset, Reset)
        assert reset.revision == last
        assert [record.key for record in reset.records] == [f"m/{number}" for number in range(5)]


async def test_a_replica_that_must_read_again_waits_for_etcd(server: Server) -> None:
    config = EtcdConfig(endpoints=(server.address,), timeout_seconds=0.3)
    async with connect_kvstore(config) as etcd, asyncio.timeout(60):
        await etcd.put("m/1", b"x")
        async with aclosing(replicate(etcd, "m/", ("m/",))) as steps:
            await anext(steps)
            last = await etcd.put("m/2", b"x")
            last = await etcd.put("m/2", b"y")
            await etcd.compact(last)
            server.kill()
            step = asyncio.ensure_future(anext(steps))
            await asyncio.sleep(0.5)  # longer than one call's time
            await asyncio.to_thread(server.start)
            reset = await step
            assert isinstance(reset, Reset)
            assert [record.value for record in reset.records] == [b"x", b"y"]


async def until_leading(candidate: Election) -> None:
    while not candidate.leading:  # noqa: ASYNC110 - an election has no event to wait for
        await asyncio.sleep(0.02)


async def test_one_replica_leads_and_another_takes_over(etcd: Etcd) -> None:
    candidates = [Election(etcd, "leader", name, ttl_seconds=2) for name in ("one", "two")]
    tasks = [asyncio.create_task(candidate.run()) for candidate in candidates]
    async with asyncio.timeout(60):
        await asyncio.wait(
            [asyncio.ensure_future(until_leading(each)) for each in candidates], return_when=asyncio.FIRST_COMPLETED
        )
        assert sum(candidate.leading for candidate in candidates) == 1
        first = 0 if candidates[0].leading else 1
        tasks[first].cancel()
        await asyncio.gather(tasks[first], return_exceptions=True)
        assert not candidates[first].leading
        await until_leading(candidates[1 - first])
    tasks[1 - first].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
