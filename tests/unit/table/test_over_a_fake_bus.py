"""Publisher and subscribers over a bus that loses what a test wants lost, in fake time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cilia.contracts.tables import Table
from cilia.errors import Unavailable
from cilia.table.publisher import TablePublisher
from cilia.table.subscriber import ALL, TableSubscriber
from tests.fakes.bus import Broker, FakeBus, Sent
from tests.fakes.clock import end, in_fake_time, now, settle

NUMBERS = Table[int, int]("numbers", "tests", int, int, lambda key: str(key % 4))
Publisher = TablePublisher[int, int]
Subscriber = TableSubscriber[int, int]


def publisher(bus: FakeBus, **rows: int) -> Publisher:
    made = Publisher(bus, NUMBERS, clock=now)
    made.reset({int(key[1:]): row for key, row in rows.items()}, 5, 1)
    return made


def subscriber(bus: FakeBus, *shards: str) -> Subscriber:
    return Subscriber(bus, NUMBERS, shards or ALL, random=random.Random(1), clock=now)


@asynccontextmanager
async def running(*parts: Publisher | Subscriber) -> AsyncIterator[None]:
    loops = [
        loop for part in parts for loop in (part.loops().values() if isinstance(part, TablePublisher) else [part.run])
    ]
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        yield
    finally:
        await end(*tasks)


@dataclass
class Pair:
    """An owner of ``{1: 10}`` and a subscriber to every shard that has heard of it."""

    broker: Broker
    theirs: FakeBus
    owner: Publisher
    some: Subscriber


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    broker = Broker()
    theirs = broker.bus()
    owner, some = publisher(theirs, k1=10), subscriber(broker.bus())
    owner.lead()
    async with running(owner, some):
        await some.wait_complete()
        yield Pair(broker, theirs, owner, some)


def state(some: Subscriber) -> dict[int, int]:
    return {key: row for shard in some.shards for key, row in some.rows(shard).items()}


@in_fake_time
async def test_a_change_arrives_at_once_and_where_its_shard_is_wanted_only() -> None:
    broker = Broker()
    owner, one, every = publisher(broker.bus(), k1=10, k2=20), subscriber(broker.bus(), "1"), subscriber(broker.bus())
    owner.lead()
    async with running(owner, one, every):
        await one.wait_complete()
        await every.wait_complete()
        assert (state(one), state(every)) == ({1: 10}, {1: 10, 2: 20})
        before = now()
        owner.commit(6, {1: 11, 2: 21})
        await one.wait_sequence("1", 6)
        await every.wait_sequence("2", 6)
        assert (state(one), state(every)) == ({1: 11}, {1: 11, 2: 21})
        assert now() == before


@in_fake_time
async def test_a_lost_delta_is_found_missing_by_the_beacon_and_only_what_changed_is_requested() -> None:
    broker = Broker()
    owner, some = publisher(broker.bus(), k1=10, k5=50), subscriber(broker.bus(), "1")
    owner.lead()
    async with running(owner, some):
        await some.wait_complete()
        rows = some.counters.rows
        broker.loses = lambda message: ".delta." in message.subject
        owner.commit(6, {1: 11})
        async with asyncio.timeout(2):
            await some.wait_sequence("1", 6)
        assert state(some) == {1: 11, 5: 50}
        assert some.counters.rows == rows + 1


@in_fake_time
async def test_beacons_that_are_lost_delay_but_their_window_tells_of_all() -> None:
    broker = Broker()
    owner, some = publisher(broker.bus(), k1=10), subscriber(broker.bus())
    owner.lead()
    async with running(owner, some):
        await some.wait_complete()
        broker.loses = lambda message: ".delta." in message.subject or ".beacon." in message.subject
        owner.commit(6, {1: 11})
        owner.commit(7, {2: 22})
        await asyncio.sleep(4)
        assert state(some) == {1: 10}
        broker.loses = lambda _: False
        async with asyncio.timeout(3):
            await some.wait_sequence("1", 7)
            await some.wait_sequence("2", 7)
        assert state(some) == {1: 11, 2: 22}


@in_fake_time
async def test_a_snapshot_that_is_lost_on_the_way_is_requested_again() -> None:
    broker = Broker()
    owner, some = publisher(broker.bus(), k1=10), subscriber(broker.bus(), "1")
    owner.lead()
    lost: list[Sent] = []
    broker.loses = lambda message: message.subject.startswith("_INBOX") and not lost and not lost.append(message)  # type: ignore[func-returns-value]
    async with running(owner, some), asyncio.timeout(10):
        await some.wait_complete()
    assert len(lost) == 1
    assert some.counters.requests == 2


@in_fake_time
async def test_without_an_owner_the_server_says_so_and_the_request_is_repeated_ever_more_slowly() -> None:
    broker = Broker()
    some = subscriber(broker.bus(), "1")
    async with running(some):
        await asyncio.sleep(60)
        assert 10 < some.counters.requests < 40
        assert not some.complete
        owner = publisher(broker.bus(), k1=10)
        async with running(owner), asyncio.timeout(10):
            await some.wait_complete()


@in_fake_time
async def test_any_replica_answers_and_the_next_leader_continues_without_requests() -> None:
    broker = Broker()
    old, new = publisher(broker.bus(), k1=1), publisher(broker.bus(), k1=1)
    some = subscriber(broker.bus())
    old.lead()
    async with running(old, new, some):
        await some.wait_complete()
        asked = some.counters.requests
        old.follow()
        for each in (old, new):
            each.commit(6, {1: 2})
        new.lead()
        async with asyncio.timeout(2):
            await some.wait_sequence("1", 6)
        assert state(some) == {1: 2}
        assert some.counters.requests == asked


@in_fake_time
async def test_a_replica_that_lags_waits_for_the_sequence_that_a_request_wants() -> None:
    broker = Broker()
    leader, lagging = publisher(broker.bus()), publisher(broker.bus())
    some = subscriber(broker.bus(), "1")
    async with running(lagging, some):
        await some.wait_complete()
        broker.loses = lambda message: ".delta." in message.subject
        async with running(leader):
            leader.lead()
            leader.commit(6, {1: 16})
            await asyncio.sleep(0.5)
        lagging.commit(6, {1: 16})
        async with asyncio.timeout(2):
            await some.wait_sequence("1", 6)
        assert some.counters.useless_answers == 0


@in_fake_time
async def test_after_a_lost_connection_all_is_suspect_and_one_beacon_settles_it() -> None:
    broker = Broker()
    theirs, mine = broker.bus(), broker.bus()
    owner, some = publisher(theirs, k1=10), subscriber(mine)
    owner.lead()
    async with running(owner, some):
        await some.wait_complete()
        asked = some.counters.requests
        mine.disconnect()
        await asyncio.sleep(5)
        mine.reconnect()
        await asyncio.sleep(5)
        assert some.counters.requests == asked
        mine.disconnect()
        owner.commit(6, {1: 11})
        await asyncio.sleep(1)
        mine.reconnect()
        async with asyncio.timeout(5):
            await some.wait_sequence("1", 6)
        assert state(some) == {1: 11}


@in_fake_time
async def test_an_owner_that_was_cut_off_keeps_its_changes_and_beacons_for_the_connection() -> None:
    async with pair() as both:
        both.theirs.disconnect()
        both.owner.commit(6, {1: 11})
        both.owner.commit(7, {1: 12})
        await asyncio.sleep(3)
        assert state(both.some) == {1: 10}
        both.theirs.reconnect()
        async with asyncio.timeout(2):
            await both.some.wait_sequence("1", 7)
        assert state(both.some) == {1: 12}


@in_fake_time
async def test_a_message_that_the_bus_refuses_is_counted_and_made_good_by_the_beacon() -> None:
    async with pair() as both:
        await asyncio.sleep(0.5)

        async def refuse(message: Sent) -> None:
            if ".delta." in message.subject:
                raise Unavailable("bus", "its buffer is full")
            await Broker.route(both.broker, message)

        both.broker.route = refuse  # type: ignore[method-assign]
        both.owner.commit(6, {1: 11})
        async with asyncio.timeout(3):
            await both.some.wait_sequence("1", 6)
        assert both.owner.counters.failures == 1


@in_fake_time
async def test_beacons_come_each_second_and_soon_after_a_batch() -> None:
    broker = Broker()
    owner = publisher(broker.bus(), k1=10)
    owner.lead()
    async with running(owner):
        await asyncio.sleep(10.5)
        regular = len([subject for subject in broker.subjects_sent() if subject == "beacon.numbers"])
        assert 10 <= regular <= 12
        owner.commit(6, {1: 11})
        await asyncio.sleep(0.15)
        assert len([subject for subject in broker.subjects_sent() if subject == "beacon.numbers"]) == regular + 1


@in_fake_time
async def test_who_does_not_lead_sends_neither_deltas_nor_beacons() -> None:
    broker = Broker()
    owner = publisher(broker.bus(), k1=10)
    async with running(owner):
        await asyncio.sleep(5)
        owner.commit(6, {1: 11})
        await settle()
        assert broker.sent == []
        owner.lead()
        await settle()
        assert "delta.numbers.1" in broker.subjects_sent()


@in_fake_time
async def test_interest_begins_and_ends_at_any_time() -> None:
    broker = Broker()
    owner, some = publisher(broker.bus(), k1=10, k2=20), subscriber(broker.bus(), "1")
    owner.lead()
    async with running(owner, some):
        await some.wait_complete()
        changes = some.changes()
        await anext(changes)
        some.add_shard("2")
        assert not some.complete
        [change] = await anext(changes)
        assert (change.upserts, change.full) == ({2: 20}, True)
        some.drop_shard("1")
        [gone] = await anext(changes)
        assert (set(gone.removes), gone.full) == ({1}, True)
        owner.commit(6, {1: 11})
        await asyncio.sleep(2)
        assert state(some) == {2: 20}


@in_fake_time
async def test_a_garbled_message_is_passed_over() -> None:
    broker = Broker()
    theirs = broker.bus()
    owner, some = publisher(theirs, k1=10), subscriber(broker.bus(), "1")
    owner.lead()
    async with running(owner, some):
        await some.wait_complete()
        for subject in (theirs.subjects.delta(NUMBERS, "1"), theirs.subjects.beacon(NUMBERS)):
            await theirs.publish(subject, b"\xc1")
        await theirs.publish(theirs.subjects.snapshot(NUMBERS, "1"), b"\xc1", reply="_INBOX.x")
        owner.commit(6, {1: 11})
        await some.wait_sequence("1", 6)
        assert state(some) == {1: 11}


@in_fake_time
async def test_whatever_is_lost_for_a_while_all_agree_soon_after() -> None:
    chance = random.Random(5)
    broker = Broker()
    connections = [broker.bus() for _ in range(2)]
    owners = [publisher(each) for each in connections]
    buses = [broker.bus() for _ in range(4)]
    followers = [subscriber(each) for each in buses[:2]] + [subscriber(each, "0", "1", "2", "3") for each in buses[2:]]
    owners[0].lead()
    rows: dict[int, int] = {}
    async with running(*owners, *followers):
        broker.loses = lambda _: chance.random() < 0.3
        for sequence in range(6, 300):
            key, row = chance.randrange(40), chance.randrange(9)
            rows[key] = row
            for owner in owners:
                owner.commit(sequence, {key: row})
            if chance.random() < 0.02:
                owners.reverse()
                owners[0].lead()
                owners[1].follow()
            if chance.random() < 0.05:
                some = chance.choice([*buses, *connections])
                if some.connected:
                    some.disconnect()
                else:
                    some.reconnect()
            await asyncio.sleep(chance.random() * 0.2)
        broker.loses = lambda _: False
        for bus in (*buses, *connections):
            if not bus.connected:
                bus.reconnect()
        async with asyncio.timeout(15):
            for each in followers:
                for shard in "0123":
                    await each.wait_sequence(shard, 299)
        assert [state(each) for each in followers] == [rows] * 4
