"""Definitions of the shared tables: the key, the row, the shard and the etcd key of each agree."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilia.contracts import tables
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.subjects import EVERY_SHARD
from cilia.contracts.tables import (
    ENDPOINTS,
    FIRST_PEER_SET,
    IDENTITIES,
    NODES,
    POLICIES,
    POOLS,
    PREFIXES,
    RESOLVED,
    STALE_NODES,
    EndpointKey,
    PolicyKey,
    SubjectKey,
    Table,
    policy_cookie,
    policy_object_key,
)
from tests.unit.contracts.drawing import values_of

few = settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
TABLES: list[Table[Any, Any]] = [NODES, STALE_NODES, POOLS, IDENTITIES, PREFIXES, ENDPOINTS, POLICIES, RESOLVED]
every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


def test_every_table_of_the_module_is_checked_here() -> None:
    assert {id(each) for each in vars(tables).values() if isinstance(each, Table)} == {id(each) for each in TABLES}


def test_names_are_distinct_tokens_of_subjects() -> None:
    names = [table.name for table in TABLES]
    assert len(set(names)) == len(names)
    assert all(name.isalpha() and name.islower() for name in names)


def test_every_table_has_one_service_that_writes_it() -> None:
    assert {table.name: table.owner for table in TABLES} == {
        "nodes": "ipam",
        "stale": "ipam",
        "pools": "ipam",
        "identities": "identity",
        "prefixes": "identity",
        "endpoints": "identity",
        "policies": "policy",
        "resolved": "policy",
    }


@every_table
@few
@given(data=st.data())
def test_a_shard_is_one_token_that_no_wildcard_is(table: Table[Any, Any], data: st.DataObject) -> None:
    shard = table.shard(data.draw(values_of(table.key)))
    assert shard
    assert shard != EVERY_SHARD
    assert shard.isalnum()


@every_table
@few
@given(data=st.data())
def test_a_key_is_always_in_the_same_shard(table: Table[Any, Any], data: st.DataObject) -> None:
    key = data.draw(values_of(table.key))
    assert table.shard(key) == table.shard(key)


def test_all_endpoints_of_a_node_are_in_one_shard() -> None:
    node = NodeName("node7")
    assert len({ENDPOINTS.shard(EndpointKey(node, EndpointId(number))) for number in range(1, 400)}) == 1


def test_nodes_spread_over_the_shards_of_endpoints() -> None:
    shards = {ENDPOINTS.shard(EndpointKey(NodeName(f"node{number}"), EndpointId(1))) for number in range(2000)}
    assert len(shards) > 200
    assert all(0 <= int(shard) < 256 for shard in shards)


def test_identities_spread_over_64_shards() -> None:
    assert {IDENTITIES.shard(Identity(number)) for number in range(256, 512)} == set(map(str, range(64)))


@few
@given(subject=st.integers(0, (1 << 32) - 1), data=st.data())
def test_resolved_policy_of_an_identity_is_a_shard_of_its_own(subject: int, data: st.DataObject) -> None:
    keys = [SubjectKey(Identity(subject), data.draw(values_of(PolicyKey))) for _ in range(3)]
    assert {RESOLVED.shard(key) for key in keys} == {str(subject)}


def test_a_policy_object_is_named_by_kind_namespace_and_name() -> None:
    assert policy_object_key("NetworkPolicy", "shop", "web") == "NetworkPolicy/shop/web"
    assert policy_object_key("CiliumClusterwideNetworkPolicy", "", "all") == "CiliumClusterwideNetworkPolicy//all"


@given(st.text())
def test_a_cookie_is_32_bits_and_never_the_one_of_defaults(key: str) -> None:
    assert 0 < policy_cookie(key) < 1 << 32
    assert policy_cookie(key) == policy_cookie(key)


def test_cookies_tell_policies_apart() -> None:
    keys = [policy_object_key("NetworkPolicy", f"n{number % 7}", f"p{number}") for number in range(2000)]
    assert len({policy_cookie(key) for key in keys}) == len(keys)


def test_the_text_whose_checksum_is_zero_has_a_cookie_too() -> None:
    assert policy_cookie("") == 1, "crc32 of nothing is 0, which stands for the default"


def test_numbers_of_peer_sets_are_beyond_all_identities() -> None:
    from cilia.contracts.identities import cluster_range, node_range, prefix_range

    assert max(cluster_range(255)[-1], node_range()[-1], prefix_range()[-1]) < FIRST_PEER_SET < 1 << 32
