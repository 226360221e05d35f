"""Configured pools in etcd: they may grow, and nothing else."""

from itertools import count

import msgspec
import pytest

from cilia.contracts.keys import Keys
from cilia.contracts.tables import Pool
from cilia.errors import BadConfig, Unavailable
from services.ipam.pool_store import ATTEMPTS, check_growth, store_pools
from services.ipam.pools import AddressPool, parse_pools
from tests.fakes.clock import in_fake_time
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")


def stored(etcd: FakeEtcd) -> dict[str, Pool]:
    return {
        key.removeprefix(KEYS.pools): msgspec.json.decode(etcd.value(key) or b"", type=Pool)
        for key in etcd.keys(KEYS.pools)
    }


def pool(text: str) -> AddressPool:
    [only] = parse_pools([f"default={text}"]).values()
    return only


@in_fake_time
async def test_what_is_configured_is_written_once_and_what_is_not_stays() -> None:
    etcd = FakeEtcd()
    await store_pools(etcd, KEYS, parse_pools(["default=10.0.0.0/16/26", "six=fd00::/48/64"]))
    at = etcd.revision
    await store_pools(etcd, KEYS, parse_pools(["default=10.0.0.0/16/26"]))
    assert etcd.revision == at
    assert stored(etcd) == {"default": Pool("10.0.0.0/16", 26), "six": Pool("fd00::/48", 64)}


@in_fake_time
async def test_a_pool_may_grow() -> None:
    etcd = FakeEtcd()
    for text in ("10.0.0.0/16/26", "10.0.0.0/8/26"):
        await store_pools(etcd, KEYS, parse_pools([f"default={text}"]))
    assert stored(etcd) == {"default": Pool("10.0.0.0/8", 26)}


@pytest.mark.parametrize(
    "text", ["10.1.0.0/16/26", "10.0.0.0/17/26", "10.0.0.0/16/27", "10.0.0.0/16/25", "fd00::/48/64"]
)
def test_a_pool_that_would_move_shrink_or_be_cut_differently_is_refused_with_both(text: str) -> None:
    with pytest.raises(BadConfig) as caught:
        check_growth(pool("10.0.0.0/16/26"), pool(text))
    assert text in str(caught.value)
    assert "10.0.0.0/16/26; it can only become larger" in str(caught.value)


@in_fake_time
async def test_a_pool_that_overlaps_one_in_etcd_is_refused_and_nothing_is_written() -> None:
    etcd = FakeEtcd()
    await store_pools(etcd, KEYS, parse_pools(["default=10.0.0.0/16/26"]))
    at = etcd.revision
    with pytest.raises(BadConfig, match="overlap"):
        await store_pools(etcd, KEYS, parse_pools(["other=10.0.7.0/24/26", "six=fd00::/48/64"]))
    assert etcd.revision == at


@in_fake_time
async def test_what_another_replica_wrote_meanwhile_is_looked_at_again() -> None:
    etcd = FakeEtcd()
    etcd.before_txn.append(lambda: etcd.set(KEYS.pool("default"), msgspec.json.encode(Pool("10.0.0.0/16", 26))))
    await store_pools(etcd, KEYS, parse_pools(["default=10.0.0.0/8/26"]))
    assert stored(etcd) == {"default": Pool("10.0.0.0/8", 26)}
    etcd.before_txn.append(lambda: etcd.set(KEYS.pool("other"), msgspec.json.encode(Pool("11.0.0.0/16", 26))))
    with pytest.raises(BadConfig, match="overlap"):
        await store_pools(etcd, KEYS, parse_pools(["more=11.0.0.0/8/26"]))


@in_fake_time
async def test_pools_that_never_hold_still_are_told() -> None:
    etcd = FakeEtcd()
    numbers = count()

    def add_another() -> None:
        number = next(numbers)
        etcd.set(KEYS.pool(f"p{number}"), msgspec.json.encode(Pool(f"10.{number}.0.0/16", 26)))

    etcd.before_txn = [add_another] * ATTEMPTS
    with pytest.raises(Unavailable, match="change all the time"):
        await store_pools(etcd, KEYS, parse_pools(["default=11.0.0.0/8/26"]))
