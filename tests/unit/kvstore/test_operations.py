"""Parts of a transaction, and etcd's words as our errors."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.errors import BadConfig, Unavailable
from cilia.kvstore import (
    Compacted,
    EtcdConfig,
    KvstoreError,
    KvstoreRefused,
    LeaseNotFound,
    LimitsDiffer,
    NotAuthorised,
    Txn,
    absent,
    absent_prefix,
    delete,
    get,
    put,
    unchanged_prefix,
)
from cilia.kvstore.channel import Channel, is_stale_token
from cilia.kvstore.operations import prefix_end

LETTERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=6)


@given(LETTERS, LETTERS)
def test_the_end_of_a_prefix_divides_what_begins_with_it_from_all_that_is_greater(prefix: str, other: str) -> None:
    end = prefix_end(prefix)
    if not prefix:
        assert end == b"\0", "etcd's word for all keys"
        return
    inside = prefix.encode() <= other.encode() < end
    assert inside == other.startswith(prefix)
    assert (prefix + other).encode() < end


def test_a_transaction_is_etcds_request() -> None:
    request = Txn((absent("a"),), (put("a", b"1", 7), delete("b")), (get("a"),)).request()
    assert [compare.key for compare in request.compare] == [b"a"]
    first, second = request.success
    assert (first.request_put.key, first.request_put.value, first.request_put.lease) == (b"a", b"1", 7)
    assert second.request_delete_range.key == b"b"
    assert request.failure[0].request_range.key == b"a"


def test_conditions_on_a_prefix_cover_its_range() -> None:
    for compare in (absent_prefix("a/"), unchanged_prefix("a/", 5)):
        assert (compare.request.key, compare.request.range_end) == (b"a/", b"a0")
    assert unchanged_prefix("a/", 5).request.mod_revision == 6


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ("etcdserver: requested lease not found", LeaseNotFound),
        ("etcdserver: mvcc: required revision has been compacted", Compacted),
        ("etcdserver: too many operations in txn request", LimitsDiffer),
        ("etcdserver: request is too large", LimitsDiffer),
        ("grpc: received message larger than max (7 vs. 4)", LimitsDiffer),
        ("etcdserver: authentication failed, invalid user ID or password", NotAuthorised),
        ("etcdserver: permission denied", NotAuthorised),
        ("etcdserver: user name is empty", NotAuthorised),
        ("etcdserver: duplicate key given in txn request", KvstoreRefused),
    ],
)
async def test_etcds_words_become_our_errors(details: str, kind: type[KvstoreError]) -> None:
    channel = Channel(EtcdConfig(endpoints=("127.0.0.1:1",), user="me"))
    refused = grpc.aio.AioRpcError(
        grpc.StatusCode.INVALID_ARGUMENT, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details
    )
    assert type(channel.translate(refused, "KV/Txn")) is kind
    await channel.close()


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED]
)
async def test_an_absence_is_unavailable_whatever_its_words(code: grpc.StatusCode) -> None:
    channel = Channel(EtcdConfig(endpoints=("127.0.0.1:1", "127.0.0.1:2")))
    gone = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="lease not found")
    found = channel.translate(gone, "KV/Txn")
    assert isinstance(found, Unavailable)
    assert "etcd at 127.0.0.1:1, 127.0.0.1:2" in str(found)
    await channel.close()


def test_a_stale_token_is_known_by_its_words() -> None:
    assert is_stale_token("etcdserver: invalid auth token")
    assert is_stale_token("etcdserver: revision of auth store is old")
    assert not is_stale_token("etcdserver: permission denied")


@pytest.mark.parametrize(("field", "value"), [("max_txn_ops", 15), ("max_request_bytes", 65_535)])
def test_limits_that_no_etcd_has_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(BadConfig, match=f"etcd.{field}.*must be at least"):
        EtcdConfig(**{field: value})  # type: ignore[arg-type]
