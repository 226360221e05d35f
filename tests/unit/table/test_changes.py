"""Changes on their way to the reader: one per shard, and those of one transaction at once."""

import asyncio

from cilia.table.changes import PendingChanges
from cilia.table.counters import SubscriberCounters
from cilia.table.shard import Change
from tests.fakes.clock import end, in_fake_time, now, settle


def change(shard: str, sequence: int, **rows: int) -> Change[str, int]:
    return Change(shard, sequence, dict(rows), frozenset())


def pending(assembly_seconds: float = 5.0) -> tuple[PendingChanges[str, int], SubscriberCounters]:
    counters = SubscriberCounters()
    return PendingChanges(assembly_seconds, counters), counters


@in_fake_time
async def test_what_piles_up_while_the_reader_is_busy_is_one_change_per_shard() -> None:
    changes, counters = pending()
    changes.put([change("s", 5, a=1), change("t", 5, x=1), change("s", 6, b=2)])
    assert await changes.take() == [change("s", 6, a=1, b=2), change("t", 5, x=1)]
    assert counters.changes == 3


@in_fake_time
async def test_the_reader_waits_for_changes_and_never_gets_none() -> None:
    changes, _ = pending()
    reading = asyncio.create_task(changes.take())
    changes.put([])
    await settle()
    assert not reading.done()
    changes.put([change("s", 5)])
    assert await reading == [change("s", 5)]
    again = asyncio.create_task(changes.take())
    await settle()
    assert not again.done()
    await end(again)


@in_fake_time
async def test_shards_of_one_transaction_are_given_at_once_as_the_beacon_says_that_all_have_come() -> None:
    changes, counters = pending()
    changes.expect_others(6)
    changes.put([change("s", 6, a=1)])
    reading = asyncio.create_task(changes.take())
    await asyncio.sleep(1)
    assert not reading.done()
    changes.put([change("t", 6, b=1)])
    await settle()
    assert not reading.done()
    changes.reach(6)
    assert {each.shard for each in await reading} == {"s", "t"}
    assert (now(), counters.assembly_timeouts) == (1, 0)


@in_fake_time
async def test_a_beacon_of_before_does_not_end_the_assembly() -> None:
    changes, _ = pending()
    changes.expect_others(6)
    changes.put([change("s", 6)])
    reading = asyncio.create_task(changes.take())
    await settle()
    changes.reach(5)
    await settle()
    assert not reading.done()
    changes.reach(7)
    await reading


@in_fake_time
async def test_a_beacon_that_came_before_its_delta_is_remembered() -> None:
    changes, _ = pending()
    changes.reach(6)
    changes.expect_others(6)
    changes.put([change("s", 6)])
    await changes.take()
    assert now() == 0


@in_fake_time
async def test_a_beacon_that_never_comes_delays_by_the_bound_and_is_counted() -> None:
    changes, counters = pending()
    changes.expect_others(6)
    changes.put([change("s", 6)])
    assert await changes.take() == [change("s", 6)]
    assert (now(), counters.assembly_timeouts) == (5, 1)
    changes.put([change("s", 7)])
    await changes.take()
    assert now() == 5, "the next is not delayed for it"


@in_fake_time
async def test_who_wants_no_assembly_gets_what_there_is() -> None:
    changes, _ = pending(0.0)
    changes.expect_others(6)
    changes.put([change("s", 6)])
    await changes.take()
    assert now() == 0
