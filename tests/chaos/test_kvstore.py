"""No acknowledged event is lost when etcd is killed."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from cilia.errors import Unavailable
from cilia.kvstore import Etcd, EtcdConfig, connect_kvstore
from tests.servers import start_etcd


async def put_for(seconds: float, etcd: Etcd) -> list[bytes]:
    """Put about 300 values a second; return those that etcd acknowledged."""
    acknowledged = []
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    number = 0
    while loop.time() < end:
        number += 1
        value = str(number).encode()
        try:
            await etcd.put("w/key", value)
            acknowledged.append(value)
        except Unavailable:
            pass  # carried out or not: nobody was promised anything
        await asyncio.sleep(0.003)
    await etcd.put("w/end", b"")
    return acknowledged


async def collect_until_end(etcd: Etcd, start: int) -> list[tuple[int, bytes]]:
    seen: list[tuple[int, bytes]] = []
    async with aclosing(etcd.watch("w/", start)) as batches:
        async for batch in batches:
            for event in batch.events:
                if event.key == "w/end":
                    return seen
                seen.append((event.revision, event.record.value))
    raise AssertionError("the watch ended")


@pytest.mark.chaos
async def test_a_watch_sees_every_acknowledged_put_once_and_in_order_through_two_kills(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,), timeout_seconds=1)) as etcd:
            watching = asyncio.create_task(collect_until_end(etcd, 1))
            writing = asyncio.create_task(put_for(6, etcd))
            for _ in range(2):
                await asyncio.sleep(1.5)
                await server.restart(after_seconds=0.3)
            acknowledged = await writing
            async with asyncio.timeout(10):
                seen = await watching
    revisions = [revision for revision, _ in seen]
    assert revisions == sorted(set(revisions))
    assert len(acknowledged) > 300
    assert set(acknowledged) <= {value for _, value in seen}


@pytest.mark.chaos
async def test_a_watch_that_breaks_while_it_catches_up_resumes_at_its_last_event(tmp_path: Path) -> None:
    with start_etcd(tmp_path) as server:
        async with connect_kvstore(EtcdConfig(endpoints=(server.address,))) as etcd:
            for group in range(0, 3000, 60):
                await asyncio.gather(*(etcd.put(f"w/{group + number}", b"") for number in range(60)))
            for number in range(3000):  # one revision each: a catch-up of several batches
                if number % 3 == 0:
                    await etcd.put("w/again", str(number).encode())
            seen: list[int] = []
            async with asyncio.timeout(30), aclosing(etcd.watch("w/", 1)) as batches:
                async for batch in batches:
                    if not seen:
                        await server.restart()
                        await etcd.put("w/last", b"")
                    seen += [event.revision for event in batch.events]
                    if any(event.key == "w/last" for event in batch.events):
                        break
            _, revision = await etcd.range("w/")
            assert set(seen) >= set(range(2, revision + 1))
            assert seen == sorted(seen)
