"""Transfer of entries between layouts, over maps in memory: copies, late writes and crashes."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi.kinds import MapKind
from cilia.datapath import map_info
from cilia.datapath.errors import CannotMigrate, MapFull
from cilia.datapath.layout import Type
from cilia.datapath.raw_map import RawMap
from cilia.datapath.transfer import Transfer
from tests.unit.datapath.layouts import U8, U16, U32, U64, MemoryMap, struct

OLD = struct(8, ("packets", U32, 0), ("tcp_flags", U8, 32), ("mark", U16, 48))
NEW = struct(16, ("mark", U16, 0), ("packets", U64, 64), ("tcp_flags", U8, 16))
CPUS = 3


@pytest.fixture(autouse=True)
def three_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_info, "possible_cpus", lambda: CPUS)


def old_value(packets: int, flags: int = 0, mark: int = 0) -> bytes:
    return packets.to_bytes(4, "little") + bytes((flags, 0)) + mark.to_bytes(2, "little")


def new_value(packets: int, flags: int = 0, mark: int = 0) -> bytes:
    return mark.to_bytes(2, "little") + bytes((flags,)) + bytes(5) + packets.to_bytes(8, "little")


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


class Move:
    """An old map, a new one, and the transfer between them."""

    def __init__(self, kind: MapKind, new_kind: MapKind | None = None, *, value: Type = NEW, room: int = 100) -> None:
        self.old = MemoryMap("flows", kind, 4, 8)
        self.new = MemoryMap("flows", new_kind or kind, 4, value.size, room)
        old, new = cast(RawMap, self.old), cast(RawMap, self.new)
        self.transfer = Transfer(old, new, (U32, OLD), (U32, value))


@pytest.mark.parametrize("kind", [MapKind.HASH, MapKind.LRU_HASH, MapKind.LPM_TRIE, MapKind.ARRAY])
def test_every_entry_is_copied_field_by_field(kind: MapKind) -> None:
    move = Move(kind)
    move.old.entries = {key(n): old_value(n, n, n) for n in range(5)}
    assert move.transfer.copy() == 5
    assert move.new.entries == {key(n): new_value(n, n, n) for n in range(5)}


def test_what_only_the_agent_writes_is_not_looked_at_again() -> None:
    move = Move(MapKind.HASH)
    move.transfer.copy()
    move.old.entries[key(1)] = old_value(1)
    assert move.transfer.catch_up() == 0
    assert not move.new.entries


@pytest.mark.parametrize("kind", [MapKind.PROG_ARRAY, MapKind.RINGBUF])
def test_contents_that_do_not_outlive_their_readers_are_left(kind: MapKind) -> None:
    move = Move(kind)
    move.old.entries = {key(1): old_value(1)}
    assert (move.transfer.copy(), move.transfer.catch_up(), move.transfer.insert_missing()) == (0, 0, 0)
    assert not move.new.entries


def test_a_new_map_that_is_too_small_says_how_far_the_copy_came() -> None:
    move = Move(MapKind.HASH, room=2)
    move.old.entries = {key(n): old_value(n) for n in range(3)}
    with pytest.raises(MapFull) as full:
        move.transfer.copy()
    assert (full.value.done, full.value.max_entries) == (2, 2)


def test_a_value_that_does_not_fit_stops_the_migration_of_a_hash_by_name() -> None:
    move = Move(MapKind.HASH, value=struct(4, ("packets", U8, 0)))
    move.old.entries = {key(1): old_value(256)}
    with pytest.raises(CannotMigrate, match="map flows: packets is 256"):
        move.transfer.copy()


def test_a_flow_that_does_not_fit_is_left_out() -> None:
    move = Move(MapKind.LRU_HASH, value=struct(4, ("packets", U8, 0)))
    move.old.entries = {key(1): old_value(256), key(2): old_value(7)}
    assert move.transfer.copy() == 1
    assert move.new.entries == {key(2): b"\7\0\0\0"}


def test_values_per_cpu_cannot_become_one_value() -> None:
    with pytest.raises(CannotMigrate, match="kind 6 can't become kind 2"):
        Move(MapKind.PERCPU_ARRAY, MapKind.ARRAY)


def test_a_flow_that_only_the_old_programs_saw_is_copied_as_it_is_then() -> None:
    move = Move(MapKind.LRU_HASH)
    move.old.entries[key(1)] = old_value(1)
    move.transfer.copy()
    move.old.entries |= {key(1): old_value(5, 2), key(2): old_value(9)}
    assert move.transfer.catch_up() == 2
    assert move.new.entries == {key(1): new_value(5, 2), key(2): new_value(9)}


def test_counts_of_old_and_new_programs_are_added_and_flags_ored() -> None:
    move = Move(MapKind.LRU_HASH)
    move.old.entries[key(1)] = old_value(10, 0b001, mark=3)
    move.transfer.copy()
    move.old.entries[key(1)] = old_value(14, 0b011, mark=3)
    move.new.entries[key(1)] = new_value(17, 0b101, mark=8)
    move.transfer.catch_up()
    assert move.new.entries[key(1)] == new_value(21, 0b111, mark=8)


def test_a_flow_that_both_saw_anew_counts_for_both() -> None:
    move = Move(MapKind.LRU_HASH)
    move.transfer.copy()
    move.old.entries[key(1)] = old_value(3)
    move.new.entries[key(1)] = new_value(4)
    move.transfer.catch_up()
    assert move.new.entries[key(1)] == new_value(7)


def test_catching_up_again_brings_in_nothing_twice() -> None:
    move = Move(MapKind.LRU_HASH)
    move.old.entries[key(1)] = old_value(3)
    move.transfer.copy()
    move.old.entries[key(1)] = old_value(5)
    assert [move.transfer.catch_up(), move.transfer.catch_up()] == [1, 0]
    move.old.entries[key(1)] = old_value(6)
    move.new.entries[key(1)] = new_value(100)
    move.transfer.catch_up()
    assert move.new.entries[key(1)] == new_value(101)


def test_values_of_each_cpu_are_converted_and_merged_by_themselves() -> None:
    move = Move(MapKind.PERCPU_HASH)
    move.old.entries[key(1)] = b"".join(old_value(n) for n in (1, 2, 3))
    move.transfer.copy()
    assert move.new.entries[key(1)] == b"".join(new_value(n) for n in (1, 2, 3))
    move.old.entries[key(1)] = b"".join(old_value(n) for n in (1, 12, 3))
    move.new.entries[key(1)] = b"".join(new_value(n) for n in (1, 2, 103))
    move.transfer.catch_up()
    assert move.new.entries[key(1)] == b"".join(new_value(n) for n in (1, 12, 103))


def test_after_a_crash_only_what_is_missing_is_inserted() -> None:
    move = Move(MapKind.LRU_HASH)
    move.old.entries = {key(1): old_value(1), key(2): old_value(2)}
    move.new.entries = {key(2): new_value(50)}
    assert move.transfer.insert_missing() == 1
    assert move.new.entries == {key(1): new_value(1), key(2): new_value(50)}


counts = st.integers(0, 1000)


@given(st.dictionaries(st.integers(0, 5), counts), st.dictionaries(st.integers(0, 5), st.tuples(counts, counts)))
def test_no_packet_is_lost_however_old_and_new_programs_take_turns(
    before: dict[int, int], during: dict[int, tuple[int, int]]
) -> None:
    move = Move(MapKind.LRU_HASH)
    move.old.entries = {key(flow): old_value(packets) for flow, packets in before.items()}
    move.transfer.copy()
    for flow, (by_old, by_new) in during.items():
        if by_old:
            move.old.entries[key(flow)] = old_value(before.get(flow, 0) + by_old)
        if by_new:
            move.new.entries[key(flow)] = new_value(before.get(flow, 0) + by_new)
    move.transfer.catch_up()
    for flow, (by_old, by_new) in during.items():
        if by_old or by_new:
            assert move.new.entries[key(flow)] == new_value(before.get(flow, 0) + by_old + by_new)
