"""Watches against a real etcd."""

import asyncio
from contextlib import aclosing

from cilia.kvstore import Etcd, Txn, put


async def test_a_revision_is_never_split_even_when_etcd_sends_it_in_fragments(etcd: Etcd) -> None:
    """A watch that catches up is sent far more than etcd's message size, so etcd cuts anywhere."""
    value = bytes(20_000)
    wanted = {}
    for group in range(12):
        operations = [put(f"f/{group}/{number}", value) for number in range(50)]
        wanted[(await etcd.txn(Txn((), operations))).revision] = len(operations)
    seen: dict[int, int] = {}
    async with asyncio.timeout(30), aclosing(etcd.watch("f/", 1)) as batches:
        async for batch in batches:
            revisions = {event.revision for event in batch.events}
            assert revisions.isdisjoint(seen)
            assert batch.revision == max(revisions)
            for event in batch.events:
                seen[event.revision] = seen.get(event.revision, 0) + 1
            if len(seen) == len(wanted):
                break
    assert seen == wanted


async def test_removals_and_writes_arrive_in_the_order_of_their_revisions(etcd: Etcd) -> None:
    first = await etcd.put("o/1", b"x")
    await etcd.delete("o/1")
    await etcd.put("p/1", b"elsewhere")
    await etcd.put("o/1", b"y")
    events = []
    async with asyncio.timeout(30), aclosing(etcd.watch("o/", first)) as batches:
        async for batch in batches:
            events += [(event.revision - first, event.removed, event.record.value) for event in batch.events]
            if len(events) == 3:
                break
    assert events == [(0, False, b"x"), (1, True, b""), (3, False, b"y")]
