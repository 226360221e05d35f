"""The record in etcd: written in pieces, joined when they are many, read back whole."""

from contextlib import suppress
from itertools import count

import msgspec
import pytest

from cilia.contracts.flows import RecordedFlow
from cilia.contracts.keys import Keys, RecordSummary
from cilia.errors import Unavailable
from services.recorder.flow_store import PIECE, SPARE_PIECES, FlowStore
from services.recorder.flow_table import FlowTable, key_of
from tests.fakes.clock import in_fake_time
from tests.fakes.etcd import FakeEtcd
from tests.unit.recorder.test_flow_table import seen

KEYS = Keys("test")


def store(etcd: FakeEtcd, start: int = 1000) -> FlowStore:
    return FlowStore(etcd, KEYS, clock_ns=count(start).__next__)


def pieces(etcd: FakeEtcd) -> list[str]:
    return [key for key in etcd.keys(KEYS.flows) if key != KEYS.flow_summary]


async def loaded(etcd: FakeEtcd, limit: int = 100_000) -> FlowTable:
    return await store(etcd, 10_000_000).load(limit)


@in_fake_time
async def test_an_empty_record_begins_now() -> None:
    table = await store(FakeEtcd()).load(100)
    assert (table.since_ns, table.rows, table.evicted) == (1000, {}, 0)


@in_fake_time
async def test_new_flows_are_written_and_come_back_with_the_summary() -> None:
    etcd, table = FakeEtcd(), FlowTable(100, since_ns=7)
    table.evicted = 3
    for port in range(5):
        table.add(seen(port))
    await store(etcd).write(table, counts=False)
    assert table.new == set()
    again = await loaded(etcd)
    assert (again.rows, again.since_ns, again.evicted) == (table.rows, 7, 3)
    assert msgspec.json.decode(etcd.value(KEYS.flow_summary) or b"") == {"since_ns": 7, "evicted": 3}


@in_fake_time
async def test_what_has_grown_is_written_with_counts_only_and_the_later_piece_holds() -> None:
    etcd, table, some = FakeEtcd(), FlowTable(100, since_ns=7), store(FakeEtcd())
    some = store(etcd)
    table.add(seen(80, count=1))
    await some.write(table, counts=False)
    table.add(seen(80, count=5))
    await some.write(table, counts=False)
    assert (len(pieces(etcd)), len(table.grown)) == (1, 1)
    await some.write(table, counts=True)
    assert (len(pieces(etcd)), len(table.grown)) == (2, 0)
    assert [flow.count for flow in (await loaded(etcd)).rows.values()] == [6]


@in_fake_time
async def test_nothing_new_writes_nothing() -> None:
    etcd, table = FakeEtcd(), FlowTable(100, since_ns=7)
    some = store(etcd)
    table.add(seen(80))
    await some.write(table, counts=True)
    at = etcd.revision
    for counts in (False, True):
        await some.write(table, counts=counts)
    assert etcd.revision == at


@in_fake_time
async def test_many_flows_take_several_pieces() -> None:
    etcd, table = FakeEtcd(), FlowTable(100_000, since_ns=7)
    table.restore([seen(port) for port in range(PIECE + 10)])
    table.new.update(table.rows)
    await store(etcd).write(table, counts=False)
    assert len(pieces(etcd)) == 2
    assert (await loaded(etcd)).rows == table.rows


@in_fake_time
async def test_pieces_are_joined_before_they_are_too_many() -> None:
    etcd, table = FakeEtcd(), FlowTable(100_000, since_ns=7)
    some = store(etcd)
    for port in range(3 * SPARE_PIECES):
        table.add(seen(port))
        await some.write(table, counts=False)
        assert len(pieces(etcd)) <= SPARE_PIECES + 1
    assert (await loaded(etcd)).rows == table.rows


@in_fake_time
async def test_a_writing_that_fails_names_its_flows_still() -> None:
    etcd, table = FakeEtcd(), FlowTable(100, since_ns=7)
    table.add(seen(80))
    table.add(seen(80, count=4))
    etcd.failures = [Unavailable("etcd", "gone")]
    with pytest.raises(Unavailable):
        await store(etcd).write(table, counts=True)
    assert table.new == table.grown == {key_of(seen(80))}


@in_fake_time
async def test_a_join_that_is_cut_short_anywhere_loses_nothing() -> None:
    for failing in range(4):
        etcd, table = FakeEtcd(), FlowTable(100_000, since_ns=7)
        some = store(etcd)
        for port in range(SPARE_PIECES):
            table.add(seen(port))
            await some.write(table, counts=False)
        table.add(seen(60_000))
        etcd.failures = [None] * failing + [Unavailable("etcd", "gone")]
        with suppress(Unavailable):
            await some.write(table, counts=False)
        etcd.failures = []
        await some.write(table, counts=False)
        for port in range(100, 100 + 2 * SPARE_PIECES):
            table.add(seen(port))
            await some.write(table, counts=False)
        assert (await loaded(etcd)).rows == table.rows
        assert len(pieces(etcd)) <= SPARE_PIECES + 3


@in_fake_time
async def test_a_smaller_limit_evicts_the_oldest_as_it_is_read() -> None:
    etcd, table = FakeEtcd(), FlowTable(1000, since_ns=7)
    for port in range(100):
        table.add(seen(port, last_ns=1000 + port))
    await store(etcd).write(table, counts=False)
    small = await loaded(etcd, 50)
    assert len(small.rows) <= 50
    assert small.evicted == 100 - len(small.rows)
    assert max(flow.port for flow in small.rows.values()) == 99


@in_fake_time
async def test_keys_that_are_no_pieces_are_passed_over() -> None:
    etcd = FakeEtcd()
    etcd.set(KEYS.flows + "book", b"{}")
    etcd.set(KEYS.flow_summary, msgspec.json.encode(RecordSummary(5)))
    table = await loaded(etcd)
    assert (table.rows, table.since_ns) == ({}, 5)


def test_flows_of_the_same_ends_have_one_key_whatever_was_counted() -> None:
    flow: RecordedFlow = seen(80)
    assert key_of(flow) == key_of(seen(80, count=9, last_ns=99))
    assert key_of(flow) != key_of(seen(81))
