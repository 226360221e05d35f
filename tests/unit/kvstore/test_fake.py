"""The fake etcd of other tests agrees with the real one, transaction by transaction."""

import random
from contextlib import aclosing

from cilia.kvstore import (
    Compare,
    Etcd,
    LeaseNotFound,
    Op,
    Txn,
    absent,
    absent_prefix,
    created_at,
    delete,
    delete_prefix,
    get,
    get_prefix,
    present,
    put,
    unchanged,
    unchanged_prefix,
    value_is,
)
from tests.fakes.etcd import FakeEtcd

KEYS = [f"f/{letter}/{number}" for letter in "ab" for number in range(3)]


def conditions(chance: random.Random, base: int, revision: int) -> list[tuple[Compare, Compare]]:
    """Return pairs of conditions: for a real etcd, whose revisions begin at ``base``, and ours."""
    found = []
    for _ in range(chance.randrange(3)):
        key, prefix, at = chance.choice(KEYS), chance.choice(("f/a/", "f/b/")), chance.randint(1, revision)
        real, fake = chance.choice(
            [
                (absent(key), absent(key)),
                (absent_prefix(prefix), absent_prefix(prefix)),
                (unchanged(key, base + at), unchanged(key, at)),
                (unchanged_prefix(prefix, base + at), unchanged_prefix(prefix, at)),
                (value_is(key, b"1"), value_is(key, b"1")),
                (created_at(key, base + at), created_at(key, at)),
                (present(key), present(key)),
            ]
        )
        found.append((real, fake))
    return found


def operations(chance: random.Random) -> list[Op]:
    keys = chance.sample(KEYS, chance.randrange(4))
    found = [chance.choice([put(key, str(chance.randrange(3)).encode()), delete(key)]) for key in keys]
    found += [get(key) for key in chance.sample(KEYS, 1)]
    return chance.choice([found, [delete_prefix("f/a/")], [get_prefix("f/b/"), *found]])


async def test_random_transactions_have_the_same_outcome_state_and_events(etcd: Etcd) -> None:
    chance, fake = random.Random(3), FakeEtcd()
    base = await etcd.put("f/base", b"") - fake.set("f/base", b"")
    first = fake.revision
    for _ in range(250):
        both, success, failure = conditions(chance, base, fake.revision), operations(chance), operations(chance)
        real = await etcd.txn(Txn([compare for compare, _ in both], success, failure))
        ours = await fake.txn(Txn([compare for _, compare in both], success, failure))
        assert (ours.succeeded, ours.revision + base) == (real.succeeded, real.revision)
        assert [(each.key, each.value) for each in ours.records] == [(each.key, each.value) for each in real.records]
    records, _ = await etcd.range("f/")
    assert [(each.key, each.value, each.create_revision, each.mod_revision) for each in records] == [
        (each.key, each.value, each.create_revision + base, each.mod_revision + base)
        for each in (await fake.range("f/"))[0]
    ]
    told: list[list[tuple[int, str, bool]]] = []
    for side, offset in ((etcd, 0), (fake, base)):
        events: list[tuple[int, str, bool]] = []
        async with aclosing(side.watch("f/", first - offset + base)) as batches:
            async for batch in batches:
                events += [(event.revision + offset, event.key, event.removed) for event in batch.events]
                if batch.revision + offset >= max(record.mod_revision for record in records):
                    break
        told.append(events)
    shorter = min(map(len, told))
    real_events, our_events = told
    assert sorted(our_events[:shorter]) == sorted(real_events[:shorter])


async def test_a_lease_takes_its_keys_along_in_both(etcd: Etcd) -> None:
    for side in (etcd, FakeEtcd()):
        lease = await side.grant(60)
        await side.put("leased/1", b"", lease)
        assert await side.keep_alive(lease) == 60
        await side.revoke(lease)
        assert await side.get("leased/1") is None
        for act in (side.keep_alive(lease), side.put("leased/2", b"", lease)):
            try:
                await act
            except LeaseNotFound:
                continue
            raise AssertionError
