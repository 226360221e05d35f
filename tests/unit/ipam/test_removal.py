"""Removal of nodes: all that hangs on a node goes at once, and nothing of anybody else."""

from random import Random

import msgspec
import pytest

from cilia.contracts.ids import EndpointId, Incarnation, NodeName
from cilia.contracts.ipam import RegisterNode
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Node, Pool, Staleness
from cilia.errors import Refused, Unavailable
from cilia.kvstore import Reset, absent, present
from cilia.owner.informer import fold
from services.ipam.cache import IpamCache
from services.ipam.errors import TooContended
from services.ipam.grants import Grants
from services.ipam.removal import ATTEMPTS, BLOCKS_AT_ONCE, Removal
from tests.fakes.clock import in_fake_time, now
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
N1, N10 = NodeName("n1"), NodeName("n10")


class Setting:
    """Two nodes with endpoints, one of them stale."""

    def __init__(self) -> None:
        self.etcd, self.cache = FakeEtcd(now), IpamCache(KEYS)
        self.etcd.set(KEYS.pool("default"), msgspec.json.encode(Pool("10.0.0.0/8", 26)))
        self.catch_up()
        self.grants = Grants(self.etcd, KEYS, self.cache, Random(1))
        self.removal = Removal(self.etcd, KEYS, self.cache, Random(1))
        self.incarnations: dict[NodeName, Incarnation] = {}

    def catch_up(self) -> None:
        fold(self.cache, Reset(self.etcd.revision, tuple(self.etcd.records.values())))

    async def fill(self) -> list[str]:
        """Return what is there without node n1."""
        for name in (N10, N1):
            entered = await self.grants.register(RegisterNode(name, "192.0.2.1"))
            self.incarnations[name] = entered.incarnation
            for number in (1, 2):
                self.etcd.set(KEYS.endpoint(name, EndpointId(number)), b"{}")
            self.catch_up()
            if name == N10:
                others = self.etcd.keys()
        self.etcd.set(KEYS.stale_node(N1), msgspec.json.encode(Staleness(1)))
        return others


@in_fake_time
async def test_row_blocks_endpoints_and_mark_go_in_one_transaction() -> None:
    setting = Setting()
    others = await setting.fill()
    before = setting.etcd.revision
    assert await setting.removal.remove(N1) == before + 1 == setting.etcd.revision
    assert setting.etcd.keys() == sorted([*others, KEYS.former_grant(N1)])


@in_fake_time
async def test_one_that_leaves_is_forgotten_and_may_leave_twice() -> None:
    setting = Setting()
    others = await setting.fill()
    for _ in range(2):
        await setting.removal.unregister(N1, Incarnation(0), only_stale=False)
    assert setting.etcd.keys() == others


@in_fake_time
async def test_a_late_farewell_of_a_former_incarnation_harms_no_successor() -> None:
    setting = Setting()
    await setting.fill()
    everything = setting.etcd.keys()
    late = Incarnation(setting.incarnations[N1] - 1)
    await setting.removal.remove(N1, late)
    assert setting.etcd.keys() == everything


@in_fake_time
async def test_where_a_condition_fails_nothing_goes() -> None:
    setting = Setting()
    await setting.fill()
    everything = setting.etcd.keys()
    assert await setting.removal.remove(N1, conditions=[absent(KEYS.node(N10))]) is None
    assert setting.etcd.keys() == everything
    assert await setting.removal.remove(N1, conditions=[present(KEYS.node(N10))])


@in_fake_time
async def test_a_node_that_is_heard_again_as_it_is_removed_stays() -> None:
    setting = Setting()
    await setting.fill()
    setting.etcd.before_txn.append(lambda: setting.etcd.remove(KEYS.stale_node(N1)))
    with pytest.raises(Refused, match="is not stale"):
        await setting.removal.unregister(N1, Incarnation(0), only_stale=True)
    with pytest.raises(Refused, match="is not stale"):
        await setting.removal.unregister(N1, Incarnation(0), only_stale=True)
    assert setting.etcd.value(KEYS.node(N1)) is not None


@in_fake_time
async def test_a_row_that_changes_meanwhile_is_read_again_and_for_ever_is_too_often() -> None:
    setting = Setting()
    await setting.fill()

    def change() -> None:
        setting.etcd.set(KEYS.node(N1), setting.etcd.value(KEYS.node(N1)) + b" " * setting.etcd.revision)  # type: ignore[operator]

    setting.etcd.before_txn = [change] * ATTEMPTS
    with pytest.raises(TooContended, match="removal of node n1"):
        await setting.removal.remove(N1)
    setting.etcd.before_txn = [change]
    assert await setting.removal.remove(N1)


@in_fake_time
async def test_many_blocks_go_piece_by_piece_and_a_removal_that_breaks_off_is_taken_up_again() -> None:
    setting = Setting()
    others = await setting.fill()
    incarnation = setting.incarnations[N1]
    for _ in range(2 * BLOCKS_AT_ONCE):
        await setting.grants.grow(N1, incarnation, "default")
        setting.catch_up()
    setting.etcd.failures = [None, Unavailable("etcd", "gone")]
    with pytest.raises(Unavailable):
        await setting.removal.remove(N1)
    row = msgspec.json.decode(setting.etcd.value(KEYS.node(N1)) or b"", type=Node)
    assert len(row.pod_cidrs) == BLOCKS_AT_ONCE + 1
    assert len(setting.etcd.keys(KEYS.blocks)) == len(row.pod_cidrs) + 1
    assert setting.etcd.keys(KEYS.endpoints_of(N1)) == []
    await setting.removal.remove(N1)
    assert setting.etcd.keys() == sorted([*others, KEYS.former_grant(N1)])
