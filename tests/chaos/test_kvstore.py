"""No acknowledged event is lost when etcd is killed."""

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from cilia.errors import Unavailable
from cilia.kvstore import Election, Etcd, EtcdConfig, connect_kvstore
from cilia.kvstore.channel import Channel
from cilia.kvstore.schema import message
from laboratory.servers import start_etcd


async def put_until(done: asyncio.Event, etcd: Etcd, acknowledged: list[bytes]) -> None:
    """Put numbers until ``done``, and then the end; note those that etcd acknowledged."""
    number = 0
    while not done.is_set():
        number += 1
        value = str(number).encode()
        try:
            await etcd.put("w/key", value)
            acknowledged.append(value)
        except Unavailable:
            pass  # carried out or not: nobody was promised anything
        await asyncio.sleep(0.001)
    await etcd.put("w/end", b"")


async def until_longer(acknowledged: list[bytes], by: int) -> None:
    wanted = len(acknowledged) + by
    async with asyncio.timeout(60):
        while len(acknowledged) < wanted:  # noqa: ASYNC110 - it grows beside
            await asyncio.sleep(0.01)


async def collect_until_end(etcd: Etcd, start: int) -> list[tuple[int, bytes]]:
    seen: list[tuple[int, bytes]] = []
    async with aclosing(etcd.watch("w/", start)) as batches:
        async for batch in batches:
            for event in batch.events:
                if event.key == "w/end":
                    return seen
                seen.append((event.revision, event.record.value))
    raise AssertionError("the watch ended")


async def make_revisions(address: str, count: int) -> None:
    """Put keys one revision each, past the group commit that would give many puts the same."""
    channel = Channel(EtcdConfig(endpoints=(address,)))
    for _ in range(count // 100):
        puts = [message("PutRequest")(key=f"w/{number}".encode()) for number in range(100)]
        await asyncio.gather(*(channel.call("KV/Put", put, "PutResponse", idempotent=False) for put in puts))
    await channel.close()


@pytest.mark.chaos
async def test_a_watch_sees_every_acknowledged_put_once_and_in_order_through_two_kills(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,), timeout_seconds=1)) as etcd:
            watching = asyncio.create_task(collect_until_end(etcd, 1))
            done, acknowledged = asyncio.Event(), list[bytes]()
            writing = asyncio.create_task(put_until(done, etcd, acknowledged))
            for _ in range(2):
                await until_longer(acknowledged, 120)
                await server.restart(after_seconds=0.3)
            await until_longer(acknowledged, 120)
            done.set()
            async with asyncio.timeout(60):
                await writing
                seen = await watching
    revisions = [revision for revision, _ in seen]
    assert revisions == sorted(set(revisions))
    assert len(acknowledged) > 300
    values = [value for _, value in seen]
    assert values == sorted(set(values), key=int)
    assert set(acknowledged) <= set(values)


@pytest.mark.chaos
async def test_a_watch_that_breaks_while_it_catches_up_resumes_at_its_last_event(tmp_path: Path) -> None:
    """6,000 revisions of one key reach a catching-up watch in parts of 1,000, the newest revision
    in each header.
    """
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            await make_revisions(server.address, 6000)
            seen: list[int] = []
            async with asyncio.timeout(60), aclosing(etcd.watch("w/", 1)) as batches:
                async for batch in batches:
                    if not seen:
                        await server.restart()
                        await etcd.put("w/last", b"")
                    seen += [event.revision for event in batch.events]
                    if any(event.key == "w/last" for event in batch.events):
                        break
            _, revision = await etcd.range("w/")
            assert seen == list(range(2, revision + 1))


LEAD = """
import asyncio, sys
from cilia.kvstore import Election, EtcdConfig, connect_kvstore

async def lead():
    async with connect_kvstore(EtcdConfig(endpoints=(sys.argv[1],))) as etcd:
        election = Election(etcd, "leader", "first", ttl_seconds=2)
        task = asyncio.create_task(election.run())
        while not election.leading:
            await asyncio.sleep(0.01)
        print("leading", flush=True)
        await task

asyncio.run(lead())
"""


@pytest.mark.chaos
async def test_a_killed_leader_is_succeeded_once_its_lease_has_ended(tmp_path: Path) -> None:
    with (
        start_etcd(tmp_path) as server,
        subprocess.Popen([sys.executable, "-c", LEAD, server.address], stdout=subprocess.PIPE) as first,
    ):
        try:
            assert first.stdout is not None
            assert await asyncio.to_thread(first.stdout.readline) == b"leading\n"
            async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
                election = Election(etcd, "leader", "second", ttl_seconds=2)
                running = asyncio.create_task(election.run())
                await asyncio.sleep(0.5)
                assert not election.leading
                first.kill()
                async with asyncio.timeout(60):
                    while not election.leading:  # noqa: ASYNC110 - an election has no event to wait for
                        await asyncio.sleep(0.02)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        finally:
            first.kill()
