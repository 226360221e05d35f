"""Allocation: one number per label set, whatever other replicas do meanwhile."""

import asyncio
import random
from random import Random

import pytest

from cilia.contracts.ids import Identity, Incarnation, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.errors import Unavailable
from cilia.kvstore import Changes, Event, Op, Record, Reset, put
from cilia.owner.informer import fold
from services.identity.allocator import ATTEMPTS, Allocator
from services.identity.cache import IdentityCache
from services.identity.errors import IdentitiesExhausted, NotMember, TooContended
from services.identity.member import Member
from tests.fakes.clock import in_fake_time
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
WEB, DB = "k8s:app=web;", "k8s:app=db;"
NUMBERS = range(256, 266)


class Replica:
    """An allocator and its cache, which learns of etcd when the test says so."""

    def __init__(self, etcd: FakeEtcd, numbers: range = NUMBERS, seed: int = 1) -> None:
        self.etcd = etcd
        self.cache = IdentityCache(KEYS)
        self.allocator = Allocator(etcd, KEYS, self.cache, numbers, Random(seed))

    def catch_up(self) -> None:
        fold(self.cache, Reset(self.etcd.revision, tuple(self.etcd.records.values())))

    async def allocate(self, labels: str, holder: str = "h", member: Member | None = None) -> Identity:
        number, _ = await self.allocator.allocate(labels, refer(holder), member)
        return number


def refer(holder: str):  # type: ignore[no-untyped-def]
    def use(identity: Identity) -> Op:
        return put(KEYS.identity_ref(identity, holder), b"")

    return use


def allocated(etcd: FakeEtcd) -> dict[str, int]:
    """Return the numbers by label set; checks that both directions agree."""
    found = {
        (etcd.value(key) or b"").decode(): int(key.removeprefix(KEYS.identities)) for key in etcd.keys(KEYS.identities)
    }
    values = {
        key.removeprefix(KEYS.identity_values): int(etcd.value(key) or 0) for key in etcd.keys(KEYS.identity_values)
    }
    assert found == values
    return found


@in_fake_time
async def test_a_new_label_set_gets_a_number_its_value_and_its_use_in_one_transaction() -> None:
    etcd = FakeEtcd()
    number, revision = await Replica(etcd).allocator.allocate(WEB, refer("n1"))
    assert number in NUMBERS
    assert allocated(etcd) == {WEB: number}
    assert etcd.value(KEYS.identity_ref(number, "n1")) == b""
    assert (etcd.transactions, revision) == (1, etcd.revision)


@in_fake_time
async def test_a_known_label_set_costs_one_transaction_and_keeps_its_number() -> None:
    etcd = FakeEtcd()
    replica = Replica(etcd)
    number = await replica.allocate(WEB)
    replica.catch_up()
    etcd.transactions = 0
    assert await replica.allocate(WEB, "other") == number
    assert etcd.transactions == 1


@in_fake_time
async def test_a_replica_that_lags_finds_the_number_that_another_gave() -> None:
    etcd = FakeEtcd()
    number = await Replica(etcd, seed=1).allocate(WEB)
    assert await Replica(etcd, seed=2).allocate(WEB) == number


@in_fake_time
async def test_a_number_that_another_label_set_took_meanwhile_is_left_to_it() -> None:
    etcd = FakeEtcd()
    first, second = Replica(etcd, seed=1), Replica(etcd, seed=1)  # both draw the same numbers
    web, db = await first.allocate(WEB), await second.allocate(DB)
    assert web != db
    assert allocated(etcd) == {WEB: web, DB: db}


@in_fake_time
async def test_what_is_remembered_but_was_deleted_is_allocated_anew() -> None:
    etcd = FakeEtcd()
    replica = Replica(etcd)
    old = await replica.allocate(WEB)
    replica.catch_up()
    for key in (KEYS.identity(old), KEYS.identity_value(WEB)):
        etcd.remove(key)
    fold(replica.cache, Changes(etcd.revision, etcd.revision, (Event(Record(KEYS.identity(old), b"", 0, 9), True),)))
    new = await replica.allocate(WEB)
    assert allocated(etcd) == {WEB: new}


@in_fake_time
async def test_who_begins_to_use_an_identity_removes_its_mark() -> None:
    etcd = FakeEtcd()
    replica = Replica(etcd)
    number = await replica.allocate(WEB)
    etcd.set(KEYS.identity_unused(number), b"")
    replica.catch_up()
    await replica.allocate(WEB, "again")
    assert etcd.value(KEYS.identity_unused(number)) is None


@in_fake_time
async def test_a_reserved_one_has_no_user() -> None:
    etcd = FakeEtcd()
    number, _ = await Replica(etcd).allocator.reserve(WEB)
    assert allocated(etcd) == {WEB: number}
    assert etcd.keys(KEYS.identity_refs) == []


@in_fake_time
async def test_a_full_range_is_told_and_known_sets_still_work() -> None:
    etcd = FakeEtcd()
    replica = Replica(etcd, range(256, 258))
    for labels in (WEB, DB):
        await replica.allocate(labels)
        replica.catch_up()
    with pytest.raises(IdentitiesExhausted, match=r"all 2 identities \(256 to 257\) are in use"):
        await replica.allocate("k8s:app=more;")
    assert await replica.allocate(WEB, "again") in (256, 257)


@in_fake_time
async def test_a_use_is_begun_only_by_a_node_that_is_the_member_that_it_was() -> None:
    etcd = FakeEtcd()
    node = NodeName("n1")
    made = Incarnation(etcd.set(KEYS.node(node), b"{}"))
    member = Member(KEYS, node, made)
    number = await Replica(etcd).allocate(WEB, "n1", member)
    etcd.set(KEYS.node(node), b"{...}")  # another block: the same member
    assert await Replica(etcd).allocate(WEB, "again", member) == number
    etcd.remove(KEYS.node(node))
    before = etcd.keys()
    for removed in (True, False):
        for labels in (WEB, "k8s:app=new;"):
            with pytest.raises(NotMember, match=f"since it was incarnation {made}; register again"):
                await Replica(etcd).allocate(labels, "n1", member)
        assert etcd.keys() == before
        if removed:
            etcd.set(KEYS.node(node), b"{}")
            before = etcd.keys()


def test_no_incarnation_is_not_mistaken_for_the_absence_of_the_node() -> None:
    with pytest.raises(NotMember):
        Member(KEYS, NodeName("n1"), Incarnation(0))


@in_fake_time
async def test_one_that_always_loses_gives_up_and_says_so() -> None:
    etcd = FakeEtcd()
    replica = Replica(etcd, range(256, 256 + 4 * ATTEMPTS))

    def take_every_number() -> None:
        for number in replica.allocator.numbers:
            etcd.set(KEYS.identity(Identity(number)), b"another;")

    etcd.before_txn = [take_every_number] * ATTEMPTS
    with pytest.raises(TooContended, match=f"lost against other writers {ATTEMPTS} times"):
        await replica.allocate(WEB)


@in_fake_time
async def test_an_etcd_that_does_not_answer_is_told_as_such() -> None:
    etcd = FakeEtcd()
    etcd.failures = [Unavailable("etcd", "gone")]
    with pytest.raises(Unavailable):
        await Replica(etcd).allocate(WEB)


@pytest.mark.parametrize("seed", range(6))
def test_replicas_that_lag_and_collide_never_give_two_numbers_or_one_twice(seed: int) -> None:
    @in_fake_time
    async def run() -> None:
        chance, etcd = random.Random(seed), FakeEtcd()
        replicas = [Replica(etcd, range(256, 300), number) for number in range(3)]
        given: dict[str, set[Identity]] = {}

        async def work(replica: Replica) -> None:
            for turn in range(40):
                labels = f"k8s:app=a{chance.randrange(25)};"
                try:
                    number = await replica.allocate(labels, f"h{turn}")
                except (TooContended, Unavailable):
                    continue
                given.setdefault(labels, set()).add(number)
                if chance.random() < 0.3:
                    replica.catch_up()
                await asyncio.sleep(chance.random() / 100)

        etcd.failures = [chance.choice([None, None, None, Unavailable("etcd", "gone")]) for _ in range(100)]
        await asyncio.gather(*map(work, replicas))
        numbers = allocated(etcd)
        assert all(found == {numbers[labels]} for labels, found in given.items())
        assert len(set(numbers.values())) == len(numbers)

    run()


def test_the_revision_of_an_identity_is_that_of_its_master_key() -> None:
    cache = IdentityCache(KEYS)
    cache.put(KEYS.identity(Identity(256)), WEB.encode(), Revision(5))
    assert cache.unused() == {256: 5}
