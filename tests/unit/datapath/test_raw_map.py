"""Maps of packed elements, over a kernel that does, or lacks, batches as a test orders."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from cilia.abi.kinds import MapKind
from cilia.datapath import map_info, raw_map
from cilia.datapath.descriptor import ffi
from cilia.datapath.errors import ENOTSUPP, MapError, MapFull
from cilia.datapath.map_info import MapInfo
from cilia.datapath.raw_map import RawMap

KEY, VALUE = 2, 4


class FakeKernel:
    """bpf(2) over a dictionary; batches fail as ordered, and single calls at the keys that do."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.room = 100
        self.batch_error = 0
        """Errno of each batched call; 0: batches work."""
        self.refused: dict[bytes, int] = {}
        """Key -> errno of its update."""
        self.singles = 0

    def bpf_map_update_elem(self, _fd: int, key: bytes, value: bytes, _flags: int) -> int:
        self.singles += 1
        return self._update(bytes(key), bytes(value))

    def bpf_map_delete_elem(self, _fd: int, key: bytes) -> int:
        self.singles += 1
        return -errno.ENOENT if self.entries.pop(bytes(key), None) is None else 0

    def bpf_map_lookup_elem(self, _fd: int, key: bytes, value: Any) -> int:
        found = self.entries.get(bytes(key))
        if found is None:
            return -errno.ENOENT
        ffi.memmove(value, found, len(found))
        return 0

    def bpf_map_get_next_key(self, _fd: int, at: Any, following: Any) -> int:
        keys = list(self.entries)
        index = 0 if at == ffi.NULL else keys.index(bytes(at)) + 1
        if index == len(keys):
            return -errno.ENOENT
        ffi.memmove(following, keys[index], KEY)
        return 0

    def cilia_update_batch(self, _fd: int, keys: Any, values: Any, count: Any) -> int:
        if self.batch_error:
            return -self.batch_error
        for at in range(count[0]):
            failed = self._update(
                bytes(ffi.buffer(keys + at * KEY, KEY)), bytes(ffi.buffer(values + at * VALUE, VALUE))
            )
            if failed:
                count[0] = at
                return failed
        return 0

    def cilia_delete_batch(self, _fd: int, keys: Any, count: Any) -> int:
        if self.batch_error:
            return -self.batch_error
        for at in range(count[0]):
            if self.entries.pop(bytes(ffi.buffer(keys + at * KEY, KEY)), None) is None:
                count[0] = at
                return -errno.ENOENT
        return 0

    def cilia_lookup_batch(self, _fd: int, after: Any, cursor: Any, keys: Any, values: Any, count: Any) -> int:
        if self.batch_error:
            return -self.batch_error
        start = 0 if after == ffi.NULL else int.from_bytes(bytes(ffi.buffer(after)[:4]), "little")
        some = list(self.entries.items())[start : start + count[0]]
        for at, (key, value) in enumerate(some):
            ffi.memmove(keys + at * KEY, key, KEY)
            ffi.memmove(values + at * VALUE, value, VALUE)
        reached = start + len(some)
        count[0] = len(some)
        ffi.memmove(cursor, reached.to_bytes(4, "little"), 4)
        return -errno.ENOENT if reached == len(self.entries) else 0

    def _update(self, key: bytes, value: bytes) -> int:
        if key in self.refused:
            return -self.refused[key]
        if key not in self.entries and len(self.entries) == self.room:
            return -errno.E2BIG
        self.entries[key] = value
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    made = FakeKernel()
    monkeypatch.setattr(raw_map, "lib", made)
    monkeypatch.setattr(raw_map, "map_info", lambda _fd: MapInfo(1, MapKind.HASH, KEY, VALUE, made.room, 0))
    return made


@pytest.fixture
def table(kernel: FakeKernel) -> RawMap:
    return RawMap(-1, "flows")


def key(number: int) -> bytes:
    return number.to_bytes(KEY, "big")


def value(number: int) -> bytes:
    return number.to_bytes(VALUE, "big")


def packed(numbers: range, pack: Callable[[int], bytes]) -> bytes:
    return b"".join(map(pack, numbers))


WITHOUT_BATCHES = pytest.mark.parametrize("batch_error", [0, ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL])
"""A kernel with batches, and those without."""


@WITHOUT_BATCHES
def test_all_elements_are_written_with_and_without_batches(kernel: FakeKernel, table: RawMap, batch_error: int) -> None:
    kernel.batch_error = batch_error
    table.update_packed(packed(range(9), key), packed(range(9), value), 9)
    assert kernel.entries == {key(n): value(n) for n in range(9)}
    assert kernel.singles == (9 if batch_error else 0)


@WITHOUT_BATCHES
def test_a_full_map_says_how_many_elements_it_took(kernel: FakeKernel, table: RawMap, batch_error: int) -> None:
    kernel.room, kernel.batch_error = 4, batch_error
    with pytest.raises(MapFull) as full:
        table.update_packed(packed(range(9), key), packed(range(9), value), 9)
    assert (full.value.done, full.value.key, list(kernel.entries)) == (4, key(4), [key(n) for n in range(4)])


@WITHOUT_BATCHES
def test_a_refused_element_is_named_and_those_before_it_stay(
    kernel: FakeKernel, table: RawMap, batch_error: int
) -> None:
    kernel.refused, kernel.batch_error = {key(3): errno.EPERM}, batch_error
    with pytest.raises(MapError, match="map flows: update, key 0003: EPERM") as refused:
        table.update_packed(packed(range(9), key), packed(range(9), value), 9)
    assert not isinstance(refused.value, MapFull)
    assert list(kernel.entries) == [key(n) for n in range(3)]


def test_nothing_to_write_is_no_call(kernel: FakeKernel, table: RawMap) -> None:
    table.update_packed(b"", b"", 0)
    assert table.delete_packed(b"") == 0
    assert kernel.singles == 0


@WITHOUT_BATCHES
def test_removal_goes_on_past_keys_that_are_gone(kernel: FakeKernel, table: RawMap, batch_error: int) -> None:
    kernel.batch_error = batch_error
    kernel.entries = {key(n): value(n) for n in (0, 2, 5, 7)}
    assert table.delete_packed(packed(range(6), key)) == 3
    assert list(kernel.entries) == [key(7)]


@WITHOUT_BATCHES
def test_the_whole_map_is_read_with_and_without_batches(kernel: FakeKernel, table: RawMap, batch_error: int) -> None:
    kernel.entries = {key(n): value(n) for n in range(10)}
    kernel.batch_error = batch_error
    assert {bytes(one): bytes(other) for one, other in table.pairs()} == kernel.entries


def test_a_read_that_removals_interrupt_falls_back_to_a_walk(kernel: FakeKernel, table: RawMap) -> None:
    kernel.entries, kernel.batch_error = {key(1): value(1)}, errno.EINTR
    assert [(bytes(one), bytes(other)) for one, other in table.pairs()] == [(key(1), value(1))]


def test_a_read_that_fails_otherwise_raises(kernel: FakeKernel, table: RawMap) -> None:
    kernel.batch_error = errno.EPERM
    with pytest.raises(MapError, match="map flows: read: EPERM"):
        list(table.pairs())


@pytest.mark.parametrize("step", [1, 3, 10, 1000])
def test_steps_together_hold_each_element_once(kernel: FakeKernel, table: RawMap, step: int) -> None:
    kernel.entries = {key(n): value(n) for n in range(10)}
    read = [bytes(keys) for keys, _ in table.batches(step)]
    assert b"".join(read) == packed(range(10), key)
    assert max(map(len, read)) <= step * KEY


def test_a_step_grows_where_a_bucket_holds_more(
    kernel: FakeKernel, table: RawMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.entries = {key(n): value(n) for n in range(10)}
    asked = []
    plain = kernel.cilia_lookup_batch

    def crowded(*arguments: Any) -> int:
        asked.append(arguments[-1][0])
        return -errno.ENOSPC if arguments[-1][0] < 8 else plain(*arguments)

    monkeypatch.setattr(kernel, "cilia_lookup_batch", crowded)
    assert b"".join(bytes(keys) for keys, _ in table.batches(2)) == packed(range(10), key)
    assert asked[:3] == [2, 4, 8]


def test_lookup_tells_a_value_from_none(kernel: FakeKernel, table: RawMap) -> None:
    kernel.entries = {key(1): value(7)}
    assert (table.lookup_bytes(key(1)), table.lookup_bytes(key(2))) == (value(7), None)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [(MapKind.HASH, 12, 12), (MapKind.PERCPU_HASH, 12, 64), (MapKind.PERCPU_ARRAY, 16, 64), (99, 3, 3)],
)
def test_an_element_holds_the_values_of_all_cpus_where_each_has_one(
    monkeypatch: pytest.MonkeyPatch, kind: int, size: int, expected: int
) -> None:
    monkeypatch.setattr(map_info, "possible_cpus", lambda: 4)
    assert MapInfo(1, kind, 4, size, 10, 0).element_bytes == expected


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 8), (8, 8), (9, 16), (12, 16)])
def test_elements_are_padded_to_8_bytes(size: int, expected: int) -> None:
    assert map_info.padded(size) == expected
