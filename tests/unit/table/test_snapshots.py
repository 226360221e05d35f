"""Snapshots: whole or what changed since, in chunks that the bus takes, encoded once."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.distribution import Delta, SnapshotChunk, SnapshotRequest
from cilia.contracts.subjects import EVERY_SHARD
from cilia.contracts.tables import Table
from cilia.table import wire
from cilia.table.changelog import Changelog
from cilia.table.snapshots import Snapshots

TEXTS = Table[int, str]("texts", "tests", int, str, lambda key: str(key % 3))
decode = msgspec.msgpack.Decoder(SnapshotChunk[int, str]).decode


def changelog(rows: dict[int, str], log_limit: int = 100) -> Changelog[int, str]:
    made = Changelog(TEXTS, log_limit=log_limit)
    made.reset(rows, 5, 1)
    return made


def chunks(snapshots: Snapshots[int, str], shard: str, *request: int) -> list[SnapshotChunk[int, str]]:
    return [decode(chunk) for chunk in snapshots.answer(shard, SnapshotRequest(*request))]


def test_a_shard_comes_whole() -> None:
    [only] = chunks(Snapshots(changelog({1: "a", 4: "b", 2: "c"})), "1")
    assert only == SnapshotChunk(1, 5, 0, 0, True, ((1, "a"), (4, "b")))


def test_a_shard_that_is_empty_is_an_answer_too() -> None:
    [only] = chunks(Snapshots(changelog({})), "1")
    assert only == SnapshotChunk(1, 5, 0, 0, True)


def test_who_has_a_sequence_gets_what_changed_since() -> None:
    some = changelog({1: "a", 4: "b"})
    some.commit(6, {1: "x", 2: "y"}, [4])
    snapshots = Snapshots(some)
    [of_one] = chunks(snapshots, "1", 1, 5)
    assert of_one == SnapshotChunk(1, 6, 5, 0, True, ((1, "x"),), (4,))
    [of_all] = chunks(snapshots, EVERY_SHARD, 1, 5)
    assert (set(of_all.upserts), of_all.removes, of_all.since) == ({(1, "x"), (2, "y")}, (4,), 5)


@pytest.mark.parametrize("request_", [(1, 4), (2, 6), (0, 0)])
def test_who_has_what_the_log_does_not_reach_or_another_epoch_gets_all(request_: tuple[int, int]) -> None:
    some = changelog({1: "a"}, log_limit=1)
    some.commit(6, {1: "b"})
    some.commit(7, {1: "c"})
    for shard in ("1", EVERY_SHARD):
        [only] = chunks(Snapshots(some), shard, *request_)
        assert (only.since, only.upserts) == (0, ((1, "c"),))


def test_the_blocks_of_a_shard_are_kept_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    some = changelog({1: "a", 2: "b"})
    snapshots = Snapshots(some)
    before = [chunks(snapshots, shard) for shard in ("1", "2")]
    some.commit(6, {1: "x"})
    monkeypatch.setattr(some, "_rows", {"1": {1: "x"}, "2": {2: "never encoded"}})
    [one], [two] = chunks(snapshots, "1"), chunks(snapshots, "2")
    assert one.upserts == ((1, "x"),)
    assert two.upserts == before[1][0].upserts


def test_a_shard_that_went_is_forgotten() -> None:
    some = changelog({1: "a"})
    snapshots = Snapshots(some)
    assert chunks(snapshots, "1")[0].upserts
    some.commit(6, {}, [1])
    assert chunks(snapshots, "1")[0].upserts == ()
    some.commit(7, {1: "again"})
    assert chunks(snapshots, "1")[0].upserts == ((1, "again"),)


def test_much_comes_in_chunks_that_the_bus_takes_all_at_one_sequence() -> None:
    rows = dict.fromkeys(range(2000), "x" * 1000)
    parts = Snapshots(changelog(rows)).answer(EVERY_SHARD, SnapshotRequest())
    assert all(len(part) < 2 * wire.BLOCK_BYTES for part in parts)
    found = [decode(part) for part in parts]
    assert [part.part for part in found] == list(range(len(found)))
    assert [part.last for part in found] == [False] * (len(found) - 1) + [True]
    assert {(part.epoch, part.sequence) for part in found} == {(1, 5)}
    assert {key: row for part in found for key, row in part.upserts} == rows


@given(st.lists(st.integers(0, 3 * wire.BLOCK_BYTES // 2), max_size=6))
def test_rows_are_packed_in_order_and_only_a_big_one_alone_exceeds_a_block(sizes: list[int]) -> None:
    items = [bytes(size) for size in sizes]
    blocks = list(wire.pack(items))
    assert [each for block in blocks for each in msgspec.msgpack.decode(bytes(wire.array(block)))] == items
    assert all(len(block.items) <= wire.BLOCK_BYTES or block.count == 1 for block in blocks)


@given(st.integers(0, 9000))
def test_blocks_are_bounded_by_rows_too(count: int) -> None:
    blocks = list(wire.pack(range(count)))
    assert sum(block.count for block in blocks) == count
    assert all(block.count <= wire.BLOCK_ROWS for block in blocks)


def test_an_array_of_more_rows_than_sixteen_bits_count_has_the_wide_head() -> None:
    block = wire.Block(70_000, b"\x01" * 70_000)
    assert msgspec.msgpack.decode(bytes(wire.array(block))) == [1] * 70_000


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_delta_comes_whole_or_in_parts_that_join_to_it(upserts: int, removes: int) -> None:
    delta = Delta(
        1, 5, 6, tuple((key, "x" * 4000) for key in range(upserts)), tuple(range(1000, 1000 + removes)), together=True
    )
    parts = [msgspec.msgpack.decode(part, type=Delta[int, str]) for part in wire.encode_delta(delta)]
    assert tuple(pair for part in parts for pair in part.upserts) == delta.upserts
    assert tuple(key for part in parts for key in part.removes) == delta.removes
    assert [part.part for part in parts] == list(range(len(parts)))
    assert {(part.parts, part.previous, part.sequence, part.together) for part in parts} == {(len(parts), 5, 6, True)}
    assert len({part.batch for part in parts}) == 1
