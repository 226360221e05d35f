"""Snapshot requests in flight: chunks join to snapshots, or the request is repeated."""

from random import Random

from cilia.contracts.distribution import SnapshotChunk
from cilia.table.counters import SubscriberCounters
from cilia.table.shard import Snapshot
from cilia.table.shards import ResyncReason
from cilia.table.snapshot_requests import SnapshotRequests

STALE = {"a": ResyncReason.NEW, "b": ResyncReason.NEW}


def requests() -> SnapshotRequests[int, int]:
    return SnapshotRequests(Random(1), SubscriberCounters())


def chunk(part: int, *, last: bool = False, since: int = 0) -> SnapshotChunk[int, int]:
    return SnapshotChunk(1, 9, since, part, last, ((part, part * 10),), (100 + part,))


def test_each_stale_shard_gets_a_request_of_its_own_name() -> None:
    some = requests()
    assert some.begin(STALE, 0.0) == [("1", "a"), ("2", "b")]
    assert some.begin(STALE, 0.1) == []


def test_chunks_in_order_join_to_a_snapshot() -> None:
    some = requests()
    [(name, _)] = some.begin({"a": ResyncReason.NEW}, 0.0)
    assert some.take(name, chunk(0, since=5), 0.1) is None
    assert some.take(name, chunk(1, since=5), 0.2) is None
    done = some.take(name, chunk(2, last=True, since=5), 0.3)
    assert done == ("a", Snapshot(1, 9, 5, {0: 0, 1: 10, 2: 20}, (100, 101, 102)))
    assert some.take(name, chunk(3), 0.4) is None, "it is done"


def test_a_chunk_that_is_missing_voids_the_answer_and_the_request_is_repeated() -> None:
    some = requests()
    [(name, _)] = some.begin({"a": ResyncReason.NEW}, 0.0)
    some.take(name, chunk(0), 0.1)
    assert some.take(name, chunk(2, last=True), 0.2) is None
    due = some.next_time()
    assert due is not None
    assert some.begin({"a": ResyncReason.NEW}, due) == [("2", "a")]


def test_a_late_answer_to_a_request_that_was_repeated_is_ignored() -> None:
    some = requests()
    [(old, _)] = some.begin({"a": ResyncReason.NEW}, 0.0)
    assert some.begin({"a": ResyncReason.NEW}, 10.0) == []  # too late: it failed
    due = some.next_time()
    assert due is not None
    [(new, _)] = some.begin({"a": ResyncReason.NEW}, due)
    assert some.take(old, chunk(0, last=True), due) is None
    assert some.take(new, chunk(0, last=True), due) is not None


def test_a_broken_connection_fails_all_and_is_counted() -> None:
    counters = SubscriberCounters()
    some = SnapshotRequests[int, int](Random(1), counters)
    some.begin(STALE, 0.0)
    some.fail_all(0.1)
    some.fail("1", 0.1)
    assert counters.useless_answers == 2
    assert {shard for _, shard in some.begin(STALE, 1.0)} == {"a", "b"}


def test_a_snapshot_that_left_its_shard_stale_is_requested_again_later() -> None:
    some = requests()
    [(name, _)] = some.begin({"a": ResyncReason.NEW}, 0.0)
    done = some.take(name, chunk(0, last=True), 0.1)
    assert done is not None
    some.note_useless("a", 0.1)
    assert some.begin({"a": ResyncReason.GAP}, 0.1) == []
    assert [shard for _, shard in some.begin({"a": ResyncReason.GAP}, 1.0)] == ["a"]
