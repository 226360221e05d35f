"""Brings the configured pools into etcd, where every replica and every node finds them."""

from collections.abc import Mapping
from typing import Final

import msgspec

from cilia.contracts.keys import Keys
from cilia.contracts.tables import Pool
from cilia.errors import BadConfig, Unavailable
from cilia.kvstore import Etcd, Txn, put, unchanged_prefix
from services.ipam.pools import AddressPool, refuse_overlaps

ATTEMPTS: Final = 10
"""Each is lost only to another replica that settles at the same time."""


async def store_pools(etcd: Etcd, keys: Keys, configured: Mapping[str, AddressPool]) -> None:
    """Write the configured pools; one that is there already may only have become larger.

    Pools in etcd that are not configured stay: nodes may hold blocks of them.

    Raises:
        BadConfig: A pool would move, shrink, be cut differently, or overlap another; names both.
    """
    for _ in range(ATTEMPTS):
        records, revision = await etcd.range(keys.pools)
        stored = {pool.name: pool for pool in (_read(keys, record.key, record.value) for record in records)}
        changed = [pool for pool in configured.values() if stored.get(pool.name) != pool]
        for pool in changed:
            if pool.name in stored:
                check_growth(stored[pool.name], pool)
        refuse_overlaps((stored | dict(configured)).values())
        rows = tuple(put(keys.pool(pool.name), msgspec.json.encode(pool.row)) for pool in changed)
        if not rows or (await etcd.txn(Txn((unchanged_prefix(keys.pools, revision),), rows))).succeeded:
            return
    raise Unavailable("etcd", "the pools change all the time")


def _read(keys: Keys, key: str, value: bytes) -> AddressPool:
    return AddressPool.from_row(key.removeprefix(keys.pools), msgspec.json.decode(value, type=Pool))


def check_growth(before: AddressPool, after: AddressPool) -> None:
    """Make sure that all blocks of a pool remain its blocks.

    Raises:
        BadConfig: Names what is there and what is wanted.
    """
    network, larger = before.network, after.network
    same_version = network.version == larger.version
    if before.block_prefix == after.block_prefix and same_version and network.subnet_of(larger):  # type: ignore[arg-type]
        return
    value = f"{after.name}={larger}/{after.block_prefix}"
    reason = f"the cluster's pool is {network}/{before.block_prefix}; it can only become larger"
    raise BadConfig("pools", value, source="configuration", reason=reason)
