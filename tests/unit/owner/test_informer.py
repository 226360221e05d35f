"""Informer: steps of etcd become commits of every table, in order."""

import asyncio
from collections.abc import Iterable
from typing import Any

from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import ONE_SHARD, Table
from cilia.kvstore import Changes, Event, Record, Reset
from cilia.owner.cache import RowChange
from cilia.owner.informer import Informer, fold
from cilia.table.publisher import TablePublisher
from tests.fakes.bus import Broker
from tests.fakes.clock import end, in_fake_time, settle
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
WORDS = Table[str, str]("words", "tests", str, str, lambda _: ONE_SHARD)
SIZES = Table[str, int]("sizes", "tests", str, int, lambda _: ONE_SHARD)


class WordCache:
    """A cache of two tables: words by name, and their lengths."""

    def __init__(self) -> None:
        self.cleared = 0
        self.revisions: list[int] = []

    def clear(self) -> None:
        self.cleared += 1

    def put(self, key: str, value: bytes, revision: Revision) -> Iterable[RowChange[Any, Any]]:
        self.revisions.append(revision)
        name = key.rpartition("/")[2]
        return (RowChange(WORDS, name, value.decode()), RowChange(SIZES, name, len(value)))

    def delete(self, key: str) -> Iterable[RowChange[Any, Any]]:
        name = key.rpartition("/")[2]
        return (RowChange(WORDS, name, None), RowChange(SIZES, name, None))


def informer(etcd: FakeEtcd) -> tuple[Informer, "TablePublisher[str, str]", "TablePublisher[str, int]"]:
    bus = Broker().bus()
    words, sizes = TablePublisher(bus, WORDS), TablePublisher(bus, SIZES)
    return Informer(etcd, KEYS, 7, (KEYS.nodes,), WordCache(), (words, sizes)), words, sizes


def record(name: str, value: bytes, revision: int) -> Record:
    return Record(KEYS.nodes + name, value, revision, revision)


def test_the_whole_state_is_a_reset_of_every_table_under_the_epoch() -> None:
    some, words, sizes = informer(FakeEtcd())
    some.take(Reset(9, (record("a", b"one", 4), record("b", b"three", 8))))
    assert words.changelog.rows == {ONE_SHARD: {"a": "one", "b": "three"}}
    assert sizes.changelog.rows == {ONE_SHARD: {"a": 3, "b": 5}}
    assert {(each.changelog.epoch, each.changelog.sequence) for each in (words, sizes)} == {(7, 9)}


def test_a_step_is_one_commit_of_each_table_in_the_order_of_its_events() -> None:
    some, words, sizes = informer(FakeEtcd())
    some.take(Reset(5, (record("a", b"one", 4),)))
    events = (
        Event(record("b", b"x", 6), False),
        Event(record("b", b"longer", 7), False),
        Event(record("a", b"", 8), True),
    )
    some.take(Changes(5, 8, events))
    assert words.changelog.rows == {ONE_SHARD: {"b": "longer"}}
    assert words.changelog.changes(ONE_SHARD, 5) == {"b": "longer", "a": None}
    assert sizes.changelog.changes(ONE_SHARD, 5) == {"b": 6, "a": None}


def test_a_step_without_events_moves_every_table() -> None:
    some, words, sizes = informer(FakeEtcd())
    some.take(Reset(5, ()))
    some.take(Changes(5, 11, ()))
    assert (words.changelog.sequence, sizes.changelog.sequence) == (11, 11)


def test_a_reset_clears_the_cache_and_each_event_comes_with_its_revision() -> None:
    cache = WordCache()
    fold(cache, Reset(9, (record("a", b"1", 4), record("b", b"2", 8))))
    fold(cache, Changes(9, 12, (Event(record("a", b"2", 11), False), Event(record("b", b"", 12), True))))
    assert (cache.cleared, cache.revisions) == (1, [4, 8, 11])


@in_fake_time
async def test_it_is_ready_once_the_whole_state_is_there_and_follows_from_then_on() -> None:
    etcd = FakeEtcd()
    etcd.set(KEYS.nodes + "a", b"one")
    some, words, _ = informer(etcd)
    assert not some.ready.is_set()
    running = asyncio.create_task(some.run())
    await some.ready.wait()
    assert words.changelog.rows == {ONE_SHARD: {"a": "one"}}
    etcd.set(KEYS.nodes + "b", b"two")
    etcd.remove(KEYS.nodes + "a")
    await settle()
    assert words.changelog.rows == {ONE_SHARD: {"b": "two"}}
    etcd.forget_history()
    etcd.set(KEYS.nodes + "c", b"three")
    await settle()
    assert words.changelog.rows == {ONE_SHARD: {"b": "two", "c": "three"}}
    await end(running)
