from collections.abc import Sequence

import msgspec
import pytest

from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import (
    ENDPOINTS,
    IDENTITIES,
    PREFIXES,
    Endpoint,
    EndpointKey,
    IdentityRow,
    Node,
    PolicyObject,
    PrefixRow,
)
from cilia.owner.cache import RowChange
from services.identity.address_labels import prefix_labels
from services.identity.cache import Change, IdentityCache
from services.identity.errors import BadField

KEYS = Keys("test")
WEB = "k8s:app=web;k8s:io.kubernetes.pod.namespace=default;"


def endpoint(identity: int, number: int = 7) -> Endpoint:
    return Endpoint(NodeName("n1"), EndpointId(number), Identity(identity), "10.0.0.9")


def put_endpoint(cache: IdentityCache, row: Endpoint, revision: int) -> object:
    return cache.put(KEYS.endpoint(row.node, row.id), msgspec.json.encode(row), Revision(revision))


def put_identity(cache: IdentityCache, number: int, canonical: str, revision: int) -> Sequence[Change]:
    return tuple(cache.put(KEYS.identity(Identity(number)), canonical.encode(), Revision(revision)))


def test_an_identity_becomes_a_row_with_sorted_labels() -> None:
    cache = IdentityCache(KEYS)
    change = put_identity(cache, 300, WEB, 5)
    labels = ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=default")
    assert change == (RowChange(IDENTITIES, Identity(300), IdentityRow(labels)),)
    assert cache.number_of(WEB) == 300


def test_an_identity_is_unused_until_an_endpoint_or_a_reference_names_it() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, 300, WEB, 5)
    assert cache.unused() == {300: 5}
    put_endpoint(cache, endpoint(300), 6)
    cache.put(KEYS.identity_ref(Identity(300), "n1"), b"", Revision(7))
    assert cache.unused() == {}
    cache.delete(KEYS.endpoint(NodeName("n1"), EndpointId(7)))
    assert cache.unused() == {}
    cache.delete(KEYS.identity_ref(Identity(300), "n1"))
    assert cache.unused() == {300: 5}


def test_an_endpoint_that_changes_its_identity_uses_only_the_new_one() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, 300, WEB, 5)
    put_identity(cache, 301, "k8s:app=db;", 6)
    put_endpoint(cache, endpoint(300), 7)
    put_endpoint(cache, endpoint(301), 8)
    assert cache.unused() == {300: 5}


def test_hearing_of_a_key_again_counts_it_once() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, 300, WEB, 5)
    for revision in (6, 7):
        cache.put(KEYS.identity_ref(Identity(300), "n1"), b"", Revision(revision))
        put_endpoint(cache, endpoint(300), revision)
    assert cache.users(Identity(300)) == 2


def test_a_deleted_endpoint_is_named_by_its_key() -> None:
    change = IdentityCache(KEYS).delete(KEYS.endpoint(NodeName("n1"), EndpointId(7)))
    assert change == (RowChange(ENDPOINTS, EndpointKey(NodeName("n1"), EndpointId(7)), None),)


PREFIX, NUMBER = "10.0.0.0/8", Identity((1 << 24) + 5)


def name_prefix(cache: IdentityCache, *prefixes: str) -> None:
    row = PolicyObject("NetworkPolicy", "shop", "p", "{}", prefixes=prefixes)
    cache.put(KEYS.policy("NetworkPolicy/shop/p"), msgspec.json.encode(row), Revision(9))


def test_a_prefix_has_a_row_until_its_identity_is_marked() -> None:
    cache = IdentityCache(KEYS)
    changes = put_identity(cache, NUMBER, prefix_labels(PREFIX), 5)
    assert RowChange(PREFIXES, PREFIX, PrefixRow(NUMBER)) in changes
    mark = KEYS.identity_unused(NUMBER)
    assert cache.put(mark, b"", Revision(6)) == (RowChange(PREFIXES, PREFIX, None),)
    assert cache.delete(mark) == (RowChange(PREFIXES, PREFIX, PrefixRow(NUMBER)),)
    assert RowChange(PREFIXES, PREFIX, None) in cache.delete(KEYS.identity(NUMBER))
    assert cache.delete(mark) == ()


def test_a_prefix_is_used_while_a_policy_names_it() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, NUMBER, prefix_labels(PREFIX), 5)
    assert cache.unused() == {NUMBER: 5}
    name_prefix(cache, PREFIX, "fd00::/8")
    assert cache.unused() == {}
    assert cache.missing() == (prefix_labels("fd00::/8"),)
    cache.put(KEYS.identity_unused(NUMBER), b"", Revision(6))
    assert set(cache.missing()) == {prefix_labels(PREFIX), prefix_labels("fd00::/8")}
    cache.delete(KEYS.policy("NetworkPolicy/shop/p"))
    assert cache.unused() == {NUMBER: 5}
    assert cache.missing() == ()


OF_NODE = Identity((2 << 24) + 5)
LABELS = "node:zone=a;reserved:remote-node=;"


def put_node(cache: IdentityCache, name: str, address: str, *labels: str) -> Sequence[Change]:
    row = Node(NodeName(name), address, labels=labels, pod_cidrs=("10.244.1.0/26", "fd00:244:0:1::/64"))
    return tuple(cache.put(KEYS.node(NodeName(name)), msgspec.json.encode(row), Revision(9)))


def test_a_nodes_addresses_have_the_identity_of_its_labels() -> None:
    cache = IdentityCache(KEYS)
    put_node(cache, "n1", "192.0.2.1", "zone=a")
    assert cache.missing() == (LABELS,)
    changes = put_identity(cache, OF_NODE, LABELS, 5)
    addresses = ("192.0.2.1/32", "10.244.1.1/32", "fd00:244:0:1::1/128")
    assert changes[1:] == tuple(RowChange(PREFIXES, each, PrefixRow(OF_NODE)) for each in addresses)
    assert cache.unused() == {}
    assert put_node(cache, "n1", "192.0.2.1", "zone=a") == ()
    assert set(cache.delete(KEYS.node(NodeName("n1")))) == {RowChange(PREFIXES, each, None) for each in addresses}
    assert cache.unused() == {OF_NODE: 5}


def test_a_node_without_labels_has_no_identity_of_its_own() -> None:
    cache = IdentityCache(KEYS)
    assert put_node(cache, "n1", "192.0.2.1") == ()
    assert cache.missing() == ()


def test_an_address_of_a_node_is_no_prefix_of_a_policy_while_the_node_is_there() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, NUMBER, prefix_labels("192.0.2.1/32"), 5)
    put_identity(cache, OF_NODE, LABELS, 6)
    name_prefix(cache, "192.0.2.1/32")
    assert RowChange(PREFIXES, "192.0.2.1/32", PrefixRow(OF_NODE)) in put_node(cache, "n1", "192.0.2.1", "zone=a")
    assert RowChange(PREFIXES, "192.0.2.1/32", PrefixRow(NUMBER)) in put_node(cache, "n1", "192.0.2.1")


def test_the_successor_of_a_node_at_its_address_keeps_its_identity() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, OF_NODE, LABELS, 5)
    put_node(cache, "n1", "192.0.2.1", "zone=a")
    put_node(cache, "n2", "192.0.2.1", "zone=a")
    gone = cache.delete(KEYS.node(NodeName("n1")))
    assert RowChange(PREFIXES, "192.0.2.1/32", PrefixRow(OF_NODE)) in gone


@pytest.mark.parametrize("text", ["10.0.0.1/8", "0.0.0.0/0", "::/0", "ten", ""])
def test_what_is_no_prefix_of_its_own_has_no_labels(text: str) -> None:
    with pytest.raises(BadField, match="prefixes"):
        prefix_labels(text)


def test_a_number_that_was_given_to_other_labels_no_longer_answers_to_the_old() -> None:
    cache = IdentityCache(KEYS)
    put_identity(cache, 300, WEB, 5)
    cache.delete(KEYS.identity(Identity(300)))
    put_identity(cache, 301, WEB, 9)
    assert cache.number_of(WEB) == 301
    cache.delete(KEYS.identity(Identity(300)))
    assert cache.number_of(WEB) == 301
