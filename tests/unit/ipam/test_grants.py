"""Registrations and grants against a fake etcd: no block twice, whoever comes first."""

import random
from random import Random

import msgspec
import pytest

from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import RegisterNode
from cilia.contracts.keys import Block, FormerGrant, Keys
from cilia.contracts.tables import Node, Pool
from cilia.errors import Refused, Unavailable
from cilia.kvstore import Reset, Txn, delete
from cilia.owner.informer import fold
from services.ipam.cache import IpamCache
from services.ipam.errors import (
    BlockNotHeld,
    NodeConflict,
    NoSuchPool,
    NotRegistered,
    PoolExhausted,
    TooContended,
    WrongFamily,
)
from services.ipam.grants import ATTEMPTS, Grants
from services.ipam.removal import Removal
from tests.fakes.clock import in_fake_time, now
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
N1, N2 = NodeName("n1"), NodeName("n2")


class Replica:
    """Grants and the cache beside them, which learns of etcd when the test says so."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.etcd = etcd
        self.cache = IpamCache(KEYS)
        self.grants = Grants(etcd, KEYS, self.cache, Random(1))
        self.removal = Removal(etcd, KEYS, self.cache, Random(2))
        self.catch_up()

    def catch_up(self) -> None:
        fold(self.cache, Reset(self.etcd.revision, tuple(self.etcd.records.values())))


def cluster(**pools: str) -> FakeEtcd:
    etcd = FakeEtcd(now)
    for name, text in (pools or {"default": "10.244.0.0/24/26"}).items():
        cidr, _, length = text.rpartition("/")
        etcd.set(KEYS.pool(name), msgspec.json.encode(Pool(cidr, int(length))))
    return etcd


def request(name: str = N1, ipv4: str = "192.0.2.1", **fields: object) -> RegisterNode:
    return msgspec.structs.replace(RegisterNode(NodeName(name), ipv4), **fields)


def check(etcd: FakeEtcd) -> dict[str, str]:
    """Check that rows and blocks say the same; return the holder of each block."""
    blocks = [msgspec.json.decode(etcd.value(key) or b"", type=Block) for key in etcd.keys(KEYS.blocks)]
    rows = [msgspec.json.decode(etcd.value(key) or b"", type=Node) for key in etcd.keys(KEYS.nodes)]
    by_block = {block.cidr: str(block.node) for block in blocks}
    assert len(by_block) == len(blocks)
    assert by_block == {cidr: str(row.name) for row in rows for cidr in row.pod_cidrs}
    assert {record.lease for record in etcd.records.values()} == {0}, "something goes by itself"
    return by_block


@in_fake_time
async def test_a_node_that_registers_has_a_row_and_a_block_in_one_transaction() -> None:
    etcd = cluster()
    before = etcd.revision
    entered = await Replica(etcd).grants.register(request(labels=("zone=a",)))
    assert (entered.row.name, entered.row.labels, len(entered.row.pod_cidrs)) == (N1, ("zone=a",), 1)
    assert entered.revision == etcd.revision == before + 1
    assert entered.incarnation == etcd.records[KEYS.node(N1)].create_revision
    assert check(etcd) == {entered.row.pod_cidrs[0]: "n1"}
    former = msgspec.json.decode(etcd.value(KEYS.former_grant(N1)) or b"", type=FormerGrant)
    assert former.cidrs == entered.row.pod_cidrs


@in_fake_time
async def test_registering_again_keeps_all_and_writes_only_what_changed() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    first = await replica.grants.register(request())
    at = etcd.revision
    assert await replica.grants.register(request()) == first
    assert etcd.revision == at
    again = await replica.grants.register(request(labels=("zone=a",)))
    assert (again.incarnation, again.row.pod_cidrs, again.row.labels) == (
        first.incarnation,
        first.row.pod_cidrs,
        ("zone=a",),
    )


@in_fake_time
async def test_a_name_of_another_machine_is_a_conflict_unless_it_shows_the_incarnation() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    first = await replica.grants.register(request())
    with pytest.raises(NodeConflict, match=r"192\.0\.2\.1, and 192\.0\.2\.9 claims"):
        await replica.grants.register(request(ipv4="192.0.2.9"))
    moved = await replica.grants.register(request(ipv4="192.0.2.9", incarnation=first.incarnation))
    assert (moved.incarnation, moved.row.ipv4, moved.row.pod_cidrs) == (
        first.incarnation,
        "192.0.2.9",
        first.row.pod_cidrs,
    )


@in_fake_time
async def test_a_node_that_was_removed_is_told_so_and_has_another_incarnation_when_it_returns() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    first = await replica.grants.register(request())
    replica.catch_up()
    await replica.removal.remove(N1)
    assert check(etcd) == {}
    with pytest.raises(NotRegistered, match="register again"):
        await replica.grants.grow(N1, first.incarnation, "default")
    replica.catch_up()
    back = await replica.grants.register(request(incarnation=first.incarnation))
    assert (back.incarnation > first.incarnation, back.row.pod_cidrs) == (True, first.row.pod_cidrs)
    with pytest.raises(NotRegistered, match="register again"):
        await replica.grants.grow(N1, first.incarnation, "default")


@in_fake_time
async def test_a_node_gets_back_what_its_pods_have_where_nobody_else_has_it() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    first = await replica.grants.register(request())
    (mine,) = first.row.pod_cidrs
    free, other, _ = (cidr for cidr in map(replica.cache.pools["default"].block, range(4)) if cidr != mine)
    etcd.set(KEYS.block("default", other), msgspec.json.encode(Block(other, N2, "default")))
    etcd.set(KEYS.node(N2), msgspec.json.encode(Node(N2, "192.0.2.2", pod_cidrs=(other,))))
    back = await replica.grants.register(request(blocks=(mine, free, other)))  # etcd came back from a backup
    assert back.row.pod_cidrs == (mine, free)
    assert check(etcd) == {mine: N1, free: N1, other: N2}


@in_fake_time
async def test_a_node_that_returns_gets_its_former_blocks_as_far_as_they_are_free() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    first = await replica.grants.register(request())
    replica.catch_up()
    second = (await replica.grants.grow(N1, first.incarnation, "default")).cidr
    replica.catch_up()
    await replica.removal.remove(N1)
    replica.catch_up()
    etcd.set(KEYS.block("default", second), msgspec.json.encode(Block(second, N2, "default")))
    back = await replica.grants.register(request())  # the cache hasn't heard of the other's block
    assert back.row.pod_cidrs == first.row.pod_cidrs
    assert back.incarnation != first.incarnation


@in_fake_time
async def test_of_two_replicas_that_choose_the_same_block_one_chooses_again() -> None:
    etcd = cluster()
    one, other = Replica(etcd), Replica(etcd)
    await one.grants.register(request("n1"))
    for number in range(2, 5):
        await other.grants.register(request(f"n{number}", f"192.0.2.{number}"))
    assert len(check(etcd)) == 4
    with pytest.raises(PoolExhausted, match=r"all 4 blocks of /26 in 10\.244\.0\.0/24"):
        await other.grants.register(request("n5", "192.0.2.5"))
    assert len(check(etcd)) == 4


@in_fake_time
async def test_two_registrations_of_one_node_at_once_end_with_one_row() -> None:
    etcd = cluster()
    one, other = Replica(etcd), Replica(etcd)
    row = Node(N1, "192.0.2.1", pod_cidrs=())
    etcd.before_txn.append(lambda: etcd.set(KEYS.node(N1), msgspec.json.encode(row)))
    entered = await one.grants.register(request())
    assert entered.incarnation == etcd.records[KEYS.node(N1)].create_revision < entered.revision
    assert (await other.grants.register(request())).row == entered.row
    check(etcd)


@in_fake_time
async def test_a_node_that_is_removed_as_it_registers_again_enters_anew() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    first = await replica.grants.register(request())
    replica.catch_up()
    etcd.before_txn.append(lambda: remove_as_another_does(etcd, first.row))
    again = await replica.grants.register(request(labels=("zone=a",)))
    assert (again.incarnation != first.incarnation, again.row.labels) == (True, ("zone=a",))
    check(etcd)


def remove_as_another_does(etcd: FakeEtcd, row: Node) -> None:
    keys = [KEYS.node(row.name), *(KEYS.block("default", cidr) for cidr in row.pod_cidrs)]
    etcd.apply(Txn((), [delete(key) for key in keys]))


@in_fake_time
async def test_blocks_grow_and_shrink_with_the_row() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    entered = await replica.grants.register(request())
    cidrs = list(entered.row.pod_cidrs)
    for _ in range(3):
        replica.catch_up()
        cidrs.append((await replica.grants.grow(N1, entered.incarnation, "default")).cidr)
    assert sorted(check(etcd)) == sorted(cidrs)
    with pytest.raises(PoolExhausted):
        await replica.grants.grow(N1, entered.incarnation, "default")
    await replica.grants.shrink(N1, cidrs[1])
    found = await replica.grants.find(N1)
    assert found is not None
    assert found.row.pod_cidrs == (cidrs[0], *cidrs[2:])
    with pytest.raises(BlockNotHeld, match="holds no block"):
        await replica.grants.shrink(N1, cidrs[1])
    assert len(check(etcd)) == 3


@in_fake_time
async def test_a_node_that_leaves_leaves_nothing_behind() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    await replica.grants.register(request())
    for _ in range(2):
        await replica.removal.unregister(N1, Incarnation(0), only_stale=False)
    assert etcd.keys(KEYS.root) == [KEYS.pool("default")]


@in_fake_time
async def test_a_node_gets_a_block_of_each_family_that_it_asks_for() -> None:
    etcd = cluster(default="10.244.0.0/16/26", six="fd00::/48/64")
    replica = Replica(etcd)
    both = await replica.grants.register(request(pool6="six"))
    assert [":" in cidr for cidr in both.row.pod_cidrs] == [False, True]
    only = await replica.grants.register(request("n2", "192.0.2.2", pool="", pool6="six"))
    assert [":" in cidr for cidr in only.row.pod_cidrs] == [True]
    later = await replica.grants.register(request("n3", "192.0.2.3"))
    replica.catch_up()
    more = await replica.grants.register(request("n3", "192.0.2.3", pool6="six"))
    assert more.row.pod_cidrs[:1] == later.row.pod_cidrs
    assert len(more.row.pod_cidrs) == 2
    check(etcd)


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"pool": "nope"}, NoSuchPool, "pool"),
        ({"pool6": "nope"}, NoSuchPool, "pool6"),
        ({"pool6": "default"}, WrongFamily, "pool6"),
        ({"pool": "six"}, WrongFamily, "pool"),
    ],
)
def test_an_impossible_pool_is_refused_by_field_and_nothing_is_written(
    fields: dict[str, str], kind: type[Refused], field: str
) -> None:
    @in_fake_time
    async def run() -> None:
        etcd = cluster(default="10.244.0.0/16/26", six="fd00::/48/64")
        before = etcd.revision
        with pytest.raises(kind) as caught:
            await Replica(etcd).grants.register(request(**fields))
        assert caught.value.problem.field == field
        assert etcd.revision == before

    run()


@in_fake_time
async def test_one_that_always_loses_gives_up() -> None:
    etcd = cluster()
    replica = Replica(etcd)
    entered = await replica.grants.register(request())
    replica.catch_up()
    row = msgspec.json.encode(entered.row)
    etcd.before_txn = [lambda: etcd.set(KEYS.node(N1), row)] * ATTEMPTS
    with pytest.raises(TooContended, match=f"lost against other writers {ATTEMPTS} times"):
        await replica.grants.grow(N1, entered.incarnation, "default")
    assert len(check(etcd)) == 1


@pytest.mark.parametrize("seed", range(8))
def test_whatever_nodes_and_replicas_do_no_block_is_granted_twice(seed: int) -> None:
    @in_fake_time
    async def run() -> None:

        chance = random.Random(seed)
        etcd = cluster(default="10.244.0.0/23/26", six="fd00::/60/64")
        replicas = [Replica(etcd) for _ in range(2)]
        names = [f"n{number}" for number in range(6)]
        incarnations: dict[str, Incarnation] = {}
        for _ in range(150):
            replica, name = chance.choice(replicas), chance.choice(names)
            node = NodeName(name)
            try:
                match chance.randrange(6):
                    case 0 | 1:
                        pool6 = chance.choice(("", "six"))
                        claimed = tuple(f"10.244.0.{chance.randrange(4) * 64}/26" for _ in range(chance.randrange(3)))
                        known = incarnations.get(name, Incarnation(0))
                        mine = request(name, pool6=pool6, incarnation=known, blocks=claimed)
                        incarnations[name] = (await replica.grants.register(mine)).incarnation
                    case 2:
                        await replica.grants.grow(
                            node, incarnations.get(name, Incarnation(0)), chance.choice(("default", "six"))
                        )
                    case 3:
                        found = await replica.grants.find(node)
                        if found is not None and found.row.pod_cidrs:
                            await replica.grants.shrink(node, chance.choice(found.row.pod_cidrs))
                    case 4:
                        await replica.removal.unregister(node, Incarnation(0), only_stale=chance.random() < 0.3)
                    case 5:
                        await replica.removal.remove(node)
            except (Refused, Unavailable):
                pass
            if chance.random() < 0.4:
                replica.catch_up()
            if chance.random() < 0.1:
                etcd.failures.append(Unavailable("etcd", "gone"))
            check(etcd)

    run()
