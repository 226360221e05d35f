"""Elections by fake time: one leads, whatever happens to leases, candidates and etcd."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cilia.errors import Unavailable
from cilia.kvstore import Election
from tests.fakes.clock import end, in_fake_time, now
from tests.fakes.etcd import FakeEtcd

TTL = 5


@asynccontextmanager
async def standing(etcd: FakeEtcd, *names: str) -> AsyncIterator[dict[str, tuple[Election, "asyncio.Task[None]"]]]:
    candidates = {name: Election(etcd, "leader", name, ttl_seconds=TTL, clock=now) for name in names}
    running = {name: (each, asyncio.create_task(each.run())) for name, each in candidates.items()}
    try:
        yield running
    finally:
        await end(*(task for _, task in running.values()))


def leaders(candidates: dict[str, tuple[Election, "asyncio.Task[None]"]]) -> list[str]:
    return [name for name, (election, _) in candidates.items() if election.leading]


@in_fake_time
async def test_of_several_one_leads_for_as_long_as_it_lives() -> None:
    etcd = FakeEtcd(now)
    async with standing(etcd, "a", "b", "c") as candidates:
        await asyncio.sleep(1)
        first = leaders(candidates)
        assert len(first) == 1
        for _ in range(100):
            await asyncio.sleep(1)
            assert leaders(candidates) == first
        assert etcd.value("leader") == first[0].encode()


@in_fake_time
async def test_one_that_resigns_is_succeeded_at_once() -> None:
    etcd = FakeEtcd(now)
    async with standing(etcd, "a", "b") as candidates:
        await asyncio.sleep(1)
        [first] = leaders(candidates)
        _, task = candidates[first]
        await end(task)
        assert etcd.value("leader") is None
        await asyncio.sleep(TTL / 5)
        assert leaders(candidates) == ["b" if first == "a" else "a"]


@in_fake_time
async def test_one_that_dies_is_succeeded_when_its_lease_ends() -> None:
    etcd = FakeEtcd(now)
    lease = await etcd.grant(TTL)
    await etcd.put("leader", b"dead", lease)
    async with standing(etcd, "b") as candidates:
        await asyncio.sleep(TTL - 0.1)
        assert leaders(candidates) == []
        await asyncio.sleep(TTL / 5 + 0.2)
        assert leaders(candidates) == ["b"]


@in_fake_time
async def test_one_that_cannot_reach_etcd_steps_down_by_its_own_clock_before_another_may_lead() -> None:
    etcd = FakeEtcd(now)
    async with standing(etcd, "a") as candidates:
        await asyncio.sleep(1)
        assert leaders(candidates) == ["a"]
        etcd.away = True
        await asyncio.sleep(TTL + 0.1)
        assert leaders(candidates) == []
        etcd.away = False
        await asyncio.sleep(2 * TTL / 5 + 0.1)
        assert leaders(candidates) == ["a"], "it stands again, with another lease"


@in_fake_time
async def test_an_absence_shorter_than_the_lease_changes_nothing() -> None:
    etcd = FakeEtcd(now)
    async with standing(etcd, "a", "b") as candidates:
        await asyncio.sleep(1)
        first = leaders(candidates)
        etcd.away = True
        await asyncio.sleep(TTL / 2)
        etcd.away = False
        for _ in range(20):
            await asyncio.sleep(0.5)
            assert leaders(candidates) == first


@in_fake_time
async def test_a_lease_that_etcd_lost_costs_the_leadership_at_the_next_renewal() -> None:
    etcd = FakeEtcd(now)
    async with standing(etcd, "a") as candidates:
        await asyncio.sleep(1)
        record = await etcd.get("leader")
        assert record is not None
        etcd.end_lease(record.lease)
        await asyncio.sleep(3 * TTL / 5)
        assert leaders(candidates) == ["a"]
        again = await etcd.get("leader")
        assert again is not None
        assert again.lease != record.lease


@in_fake_time
async def test_one_whose_grant_was_carried_out_unheard_recognises_its_own_key() -> None:
    """The transaction fails on the way back, though etcd carried it out."""
    etcd = FakeEtcd(now)

    def carried_out() -> None:
        etcd.set("leader", b"a", 1)  # the lease that it was granted first

    etcd.before_txn.append(carried_out)
    etcd.failures.append(Unavailable("etcd", "no answer"))
    async with standing(etcd, "a") as candidates:
        await asyncio.sleep(2 * TTL)
        assert leaders(candidates) == ["a"]


@in_fake_time
async def test_leaders_never_overlap_whatever_comes_and_goes() -> None:
    etcd, chance = FakeEtcd(now), random.Random(2)
    async with standing(etcd, "a", "b", "c") as candidates:
        seen = set()
        for _ in range(400):
            await asyncio.sleep(0.3)
            etcd.away = chance.random() < 0.6 if chance.random() < 0.2 else etcd.away
            now_leading = leaders(candidates)
            assert len(now_leading) <= 1
            seen.update(now_leading)
    assert seen
