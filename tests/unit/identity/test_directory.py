import msgspec
import pytest

from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Endpoint, EndpointKey, IdentityRow, PolicyObject, PrefixRow
from services.identity.directory import Directory, EndpointChange, IdentityChange, PrefixChange
from services.identity.errors import BadField
from services.identity.prefixes import prefix_labels

KEYS = Keys("test")
WEB = "k8s:app=web;k8s:io.kubernetes.pod.namespace=default;"


def endpoint(identity: int, number: int = 7) -> Endpoint:
    return Endpoint(NodeName("n1"), EndpointId(number), Identity(identity), "10.0.0.9")


def put_endpoint(directory: Directory, row: Endpoint, revision: int) -> object:
    return directory.put(KEYS.endpoint(row.node, row.id), msgspec.json.encode(row), Revision(revision))


def put_identity(directory: Directory, number: int, canonical: str, revision: int) -> object:
    return directory.put(KEYS.identity(Identity(number)), canonical.encode(), Revision(revision))


def test_an_identity_becomes_a_row_with_sorted_labels() -> None:
    directory = Directory(KEYS)
    change = put_identity(directory, 300, WEB, 5)
    labels = ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=default")
    assert change == (IdentityChange(Identity(300), IdentityRow(labels)),)
    assert directory.number_of(WEB) == 300


def test_an_identity_is_unused_until_an_endpoint_or_a_reference_names_it() -> None:
    directory = Directory(KEYS)
    put_identity(directory, 300, WEB, 5)
    assert directory.unused() == {300: 5}
    put_endpoint(directory, endpoint(300), 6)
    directory.put(KEYS.identity_ref(Identity(300), "n1"), b"", Revision(7))
    assert directory.unused() == {}
    directory.delete(KEYS.endpoint(NodeName("n1"), EndpointId(7)))
    assert directory.unused() == {}
    directory.delete(KEYS.identity_ref(Identity(300), "n1"))
    assert directory.unused() == {300: 5}


def test_an_endpoint_that_changes_its_identity_uses_only_the_new_one() -> None:
    directory = Directory(KEYS)
    put_identity(directory, 300, WEB, 5)
    put_identity(directory, 301, "k8s:app=db;", 6)
    put_endpoint(directory, endpoint(300), 7)
    put_endpoint(directory, endpoint(301), 8)
    assert directory.unused() == {300: 5}


def test_hearing_of_a_key_again_counts_it_once() -> None:
    directory = Directory(KEYS)
    put_identity(directory, 300, WEB, 5)
    for revision in (6, 7):
        directory.put(KEYS.identity_ref(Identity(300), "n1"), b"", Revision(revision))
        put_endpoint(directory, endpoint(300), revision)
    assert directory.users(Identity(300)) == 2


def test_a_deleted_endpoint_is_named_by_its_key() -> None:
    change = Directory(KEYS).delete(KEYS.endpoint(NodeName("n1"), EndpointId(7)))
    assert change == (EndpointChange(EndpointKey(NodeName("n1"), EndpointId(7)), None),)


PREFIX, NUMBER = "10.0.0.0/8", Identity((1 << 24) + 5)


def name_prefix(directory: Directory, *prefixes: str) -> None:
    row = PolicyObject("NetworkPolicy", "shop", "p", "{}", prefixes=prefixes)
    directory.put(KEYS.policy("NetworkPolicy/shop/p"), msgspec.json.encode(row), Revision(9))


def test_a_prefix_has_a_row_until_its_identity_is_marked() -> None:
    directory = Directory(KEYS)
    changes = put_identity(directory, NUMBER, prefix_labels(PREFIX), 5)
    assert PrefixChange(PREFIX, PrefixRow(NUMBER)) in changes
    mark = KEYS.identity_unused(NUMBER)
    assert directory.put(mark, b"", Revision(6)) == (PrefixChange(PREFIX, None),)
    assert directory.delete(mark) == (PrefixChange(PREFIX, PrefixRow(NUMBER)),)
    assert PrefixChange(PREFIX, None) in directory.delete(KEYS.identity(NUMBER))
    assert directory.delete(mark) == ()


def test_a_prefix_is_used_while_a_policy_names_it() -> None:
    directory = Directory(KEYS)
    put_identity(directory, NUMBER, prefix_labels(PREFIX), 5)
    assert directory.unused() == {NUMBER: 5}
    name_prefix(directory, PREFIX, "fd00::/8")
    assert directory.unused() == {}
    assert directory.lacking() == ("fd00::/8",)
    directory.put(KEYS.identity_unused(NUMBER), b"", Revision(6))
    assert set(directory.lacking()) == {PREFIX, "fd00::/8"}
    directory.delete(KEYS.policy("NetworkPolicy/shop/p"))
    assert directory.unused() == {NUMBER: 5}
    assert directory.lacking() == ()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "0.0.0.0/0", "::/0", "ten", ""])
def test_what_is_no_prefix_of_its_own_has_no_labels(text: str) -> None:
    with pytest.raises(BadField, match="prefixes"):
        prefix_labels(text)


def test_a_number_that_was_given_to_other_labels_no_longer_answers_to_the_old() -> None:
    directory = Directory(KEYS)
    put_identity(directory, 300, WEB, 5)
    directory.delete(KEYS.identity(Identity(300)))
    put_identity(directory, 301, WEB, 9)
    assert directory.number_of(WEB) == 301
    directory.delete(KEYS.identity(Identity(300)))
    assert directory.number_of(WEB) == 301
