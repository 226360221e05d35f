"""Garbage collection and backfill against a fake etcd, round by round in fake time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec

from cilia.contracts.identities import node_range, prefix_range
from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Node, PolicyObject
from cilia.errors import Unavailable
from cilia.kvstore import Op, put, replicate
from cilia.owner.informer import fold
from services.identity.allocator import Allocator
from services.identity.backfill import ROUND_SECONDS, Backfill
from services.identity.cache import IdentityCache
from services.identity.gc import GCCounters, IdentityGC
from tests.fakes.clock import end, in_fake_time, settle
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
WEB = "k8s:app=web;"
ROUND = 10.0


class Replica:
    """A cache that follows etcd, its garbage collection, and its allocators."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.etcd = etcd
        self.cache = IdentityCache(KEYS)
        self.leading = True
        self.counters = GCCounters()
        self.gc = IdentityGC(
            etcd,
            KEYS,
            self.cache,
            elected=lambda: self.leading,
            round_seconds=ROUND,
            steps_per_second=100.0,
            counters=self.counters,
        )
        self.pods = self._allocator(range(256, 400))
        self.backfill = Backfill(
            self._allocator(prefix_range()), self._allocator(node_range()), self.cache, elected=lambda: self.leading
        )

    def _allocator(self, numbers: range) -> Allocator:
        return Allocator(self.etcd, KEYS, self.cache, numbers, Random(1))

    async def follow(self) -> None:
        async for step in replicate(self.etcd, KEYS.root, self.cache.prefixes):
            fold(self.cache, step)

    async def allocate(self, labels: str, holder: str = "h") -> Identity:
        def use(identity: Identity) -> Op:
            return put(KEYS.identity_ref(identity, holder), b"")

        number, _ = await self.pods.allocate(labels, use)
        return number


@asynccontextmanager
async def running(etcd: FakeEtcd) -> AsyncIterator[Replica]:
    replica = Replica(etcd)
    tasks = [asyncio.create_task(loop()) for loop in (replica.follow, replica.gc.run, replica.backfill.run)]
    await settle()
    try:
        yield replica
    finally:
        await end(*tasks)


def identities(etcd: FakeEtcd) -> list[str]:
    return etcd.keys(KEYS.identities)


@in_fake_time
async def test_an_unused_identity_is_marked_and_goes_with_all_its_keys_once_two_more_rounds_saw_the_mark() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        number, _ = await replica.pods.reserve(WEB)
        await asyncio.sleep(ROUND + 1)
        assert etcd.keys(KEYS.identities_unused) == [KEYS.identity_unused(number)]
        await asyncio.sleep(ROUND)
        assert identities(etcd) == [KEYS.identity(number)]
        await asyncio.sleep(ROUND)
        assert etcd.keys(KEYS.root) == []
        assert (replica.counters.marked, replica.counters.deleted) == (1, 1)


@in_fake_time
async def test_a_used_identity_stays_through_any_number_of_rounds() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        await replica.allocate(WEB)
        await asyncio.sleep(20 * ROUND)
        assert len(identities(etcd)) == 1
        assert (replica.counters.marked, replica.counters.deleted) == (0, 0)


@in_fake_time
async def test_a_use_that_begins_between_the_rounds_removes_the_mark_and_saves_it() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        number, _ = await replica.pods.reserve(WEB)
        await asyncio.sleep(ROUND + 1)
        assert await replica.allocate(WEB) == number
        await asyncio.sleep(5 * ROUND)
        assert identities(etcd) == [KEYS.identity(number)]
        assert etcd.keys(KEYS.identities_unused) == []


@in_fake_time
async def test_a_use_that_begins_as_the_deletion_is_on_its_way_wins() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        number, _ = await replica.pods.reserve(WEB)
        await asyncio.sleep(2 * ROUND + 1)
        etcd.before_txn.append(
            lambda: (etcd.remove(KEYS.identity_unused(number)), etcd.set(KEYS.identity_ref(number, "h"), b""))
        )
        await asyncio.sleep(ROUND)
        assert identities(etcd) == [KEYS.identity(number)]
        assert replica.counters.kept == 1


@in_fake_time
async def test_a_reference_of_which_the_cache_never_heard_saves_it_too() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        number, _ = await replica.pods.reserve(WEB)
        await asyncio.sleep(2 * ROUND + 1)
        etcd.before_txn.append(lambda: etcd.set(KEYS.identity_ref(number, "h"), b""))  # and the mark still stands
        await asyncio.sleep(ROUND)
        assert identities(etcd) == [KEYS.identity(number)]
        assert replica.counters.kept == 1
        assert replica.counters.kept == 1


@in_fake_time
async def test_who_does_not_lead_collects_nothing_and_a_new_leader_begins_to_count_anew() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        await replica.pods.reserve(WEB)
        await asyncio.sleep(ROUND + 1)
        replica.leading = False
        await asyncio.sleep(5 * ROUND)
        assert len(identities(etcd)) == 1
        replica.leading = True
        await asyncio.sleep(ROUND)
        assert len(identities(etcd)) == 1, "its first round only looks"
        await asyncio.sleep(ROUND)
        assert identities(etcd) == []


@in_fake_time
async def test_a_round_that_etcd_does_not_answer_ends_early_and_the_next_goes_on() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        for number in range(3):
            await replica.pods.reserve(f"k8s:app=a{number};")
        etcd.failures = [None, Unavailable("etcd", "gone")]
        await asyncio.sleep(ROUND + 1)
        assert replica.counters.failed_rounds == 1
        await asyncio.sleep(3 * ROUND)
        assert identities(etcd) == []


@in_fake_time
async def test_a_mark_of_no_identity_is_removed_and_one_that_came_back_meanwhile_stays() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        for number in (300, 301):
            etcd.set(KEYS.identity_unused(Identity(number)), b"")
        await asyncio.sleep(ROUND - 0.5)
        etcd.before_txn.append(lambda: etcd.set(KEYS.identity(Identity(300)), b"k8s:app=back;"))
        await asyncio.sleep(1)
        assert etcd.keys(KEYS.identity_unused(Identity(301))) == []
        assert etcd.keys(KEYS.identity_unused(Identity(300))) != []
        assert replica.counters.kept == 1


@in_fake_time
async def test_who_loses_the_lead_in_the_midst_of_a_round_stops_there() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        for number in range(50):
            await replica.pods.reserve(f"k8s:app=a{number};")
        await asyncio.sleep(ROUND + 0.105)
        replica.leading = False
        await asyncio.sleep(5 * ROUND)
        assert 0 < replica.counters.marked < 50
        assert len(identities(etcd)) == 50


@in_fake_time
async def test_steps_keep_their_distance() -> None:
    etcd = FakeEtcd()
    async with running(etcd) as replica:
        for number in range(100):
            await replica.pods.reserve(f"k8s:app=a{number};")
        await asyncio.sleep(ROUND + 0.505)
        assert 45 <= replica.counters.marked <= 55


@in_fake_time
async def test_no_use_is_lost_whatever_the_order_of_uses_and_rounds() -> None:
    chance, etcd = random.Random(3), FakeEtcd()
    async with running(etcd) as first, running(etcd) as second:

        async def use_and_leave(replica: Replica, number: int) -> None:
            for _ in range(30):
                labels = f"k8s:app=a{number % 4};"
                identity = await replica.allocate(labels, f"h{number}")
                await asyncio.sleep(chance.uniform(0, 2 * ROUND))
                assert etcd.value(KEYS.identity(identity)) == labels.encode()
                etcd.remove(KEYS.identity_ref(identity, f"h{number}"))
                await asyncio.sleep(chance.uniform(0, 3 * ROUND))

        await asyncio.gather(*(use_and_leave((first, second)[number % 2], number) for number in range(6)))
        assert first.counters.deleted + second.counters.deleted > 5
        await asyncio.sleep(4 * ROUND)
        assert identities(etcd) == []


@in_fake_time
async def test_prefixes_of_policies_and_labelled_nodes_get_identities_that_they_lack() -> None:
    etcd = FakeEtcd()
    policy = PolicyObject("NetworkPolicy", "shop", "p", "{}", prefixes=("10.0.0.0/8",))
    async with running(etcd) as replica:
        etcd.set(KEYS.policy("NetworkPolicy/shop/p"), msgspec.json.encode(policy))
        etcd.set(KEYS.node(NodeName("n1")), msgspec.json.encode(Node(NodeName("n1"), "192.0.2.1", labels=("zone=a",))))
        await asyncio.sleep(ROUND_SECONDS + 0.1)
        numbers = sorted(int(key.rpartition("/")[2]) for key in identities(etcd))
        assert [numbers[0] in prefix_range(), numbers[1] in node_range()] == [True, True]
        assert replica.cache.missing() == ()
        await asyncio.sleep(5 * ROUND)
        assert len(identities(etcd)) == 2
        etcd.remove(KEYS.policy("NetworkPolicy/shop/p"))
        await asyncio.sleep(3 * ROUND)
        assert [int(key.rpartition("/")[2]) in node_range() for key in identities(etcd)] == [True]


@in_fake_time
async def test_backfill_goes_on_after_etcd_was_away_and_only_while_elected() -> None:
    etcd = FakeEtcd()
    policy = PolicyObject("NetworkPolicy", "shop", "p", "{}", prefixes=("10.0.0.0/8", "fd00::/8"))
    async with running(etcd) as replica:
        replica.leading = False
        etcd.set(KEYS.policy("NetworkPolicy/shop/p"), msgspec.json.encode(policy))
        await asyncio.sleep(3 * ROUND_SECONDS)
        assert identities(etcd) == []
        replica.leading = True
        etcd.failures = [Unavailable("etcd", "gone")]
        await asyncio.sleep(2 * ROUND_SECONDS + 0.1)
        assert len(identities(etcd)) == 2
