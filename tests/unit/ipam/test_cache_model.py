"""ipam's cache against a model that looks at all keys, whatever was put and deleted."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.keys import Block, FormerGrant, Keys
from cilia.contracts.tables import NODES, POOLS, Node, Pool
from services.ipam.cache import IpamCache

KEYS = Keys("test")
NAMES = [NodeName(f"n{number}") for number in range(3)]
POOL_ROWS = {"default": Pool("10.244.0.0/24", 26), "six": Pool("fd00::/62", 64)}
CIDRS = {"10.244.0.0/26": "default", "10.244.0.64/26": "default", "fd00:0:0:1::/64": "six"}


def puts() -> list[tuple[str, bytes]]:
    found = [(KEYS.pool(name), msgspec.json.encode(row)) for name, row in POOL_ROWS.items()]
    for name in NAMES:
        found += [(KEYS.node(name), msgspec.json.encode(Node(name, "192.0.2.1", pod_cidrs=tuple(CIDRS)[:1])))]
        found += [(KEYS.former_grant(name), msgspec.json.encode(FormerGrant(tuple(CIDRS)[:size]))) for size in (1, 3)]
        found += [
            (KEYS.block(pool, cidr), msgspec.json.encode(Block(cidr, name, pool))) for cidr, pool in CIDRS.items()
        ]
    return found


PUTS = puts()


def names(keys: dict[str, bytes], prefix: str) -> set[str]:
    return {key.removeprefix(prefix) for key in keys if key.startswith(prefix)}


def check(cache: IpamCache, keys: dict[str, bytes]) -> None:
    nodes, pools = names(keys, KEYS.nodes), names(keys, KEYS.pools)
    taken = {cidr for cidr, pool in CIDRS.items() if KEYS.block(pool, cidr) in keys}
    former = {
        name: msgspec.json.decode(keys[KEYS.former_grant(NodeName(name))], type=FormerGrant).cidrs
        for name in names(keys, KEYS.former_grants)
    }
    assert set(cache.nodes) == nodes
    assert set(cache.pools) == pools
    for pool in POOL_ROWS:
        assert cache.taken(pool) == {cidr for cidr in taken if CIDRS[cidr] == pool}
    for cidr, pool in CIDRS.items():
        assert cache.pool_of(cidr) == (pool if pool in pools else None)
    for name in NAMES:
        absent = {other: cidrs for other, cidrs in former.items() if other not in nodes and other != name}
        assert cache.remembered(name) == {cidr for cidrs in absent.values() for cidr in cidrs}
        regainable = [cidr for cidr in former.get(name, ()) if CIDRS[cidr] in pools and cidr not in taken]
        assert list(cache.regainable(name)) == regainable


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PUTS) - 1), st.booleans()), max_size=40))
def test_the_cache_knows_what_all_keys_say_and_tells_each_change_of_a_row(steps: list[tuple[int, bool]]) -> None:
    cache, keys = IpamCache(KEYS), dict[str, bytes]()
    tables: dict[str, dict[str, object]] = {NODES.name: {}, POOLS.name: {}}
    for which, deletes in steps:
        key, value = PUTS[which]
        if not deletes:
            keys[key] = value
            changes = cache.put(key, value, Revision(1))
        elif key in keys:
            del keys[key]
            changes = cache.delete(key)
        else:
            continue
        for change in changes:
            tables[change.table.name].pop(change.key, None)
            if change.row is not None:
                tables[change.table.name][change.key] = change.row
        check(cache, keys)
        assert tables[NODES.name] == dict(cache.nodes)
        assert tables[POOLS.name] == {name: pool.row for name, pool in cache.pools.items()}
    cache.clear()
    check(cache, {})
