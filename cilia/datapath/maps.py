"""Typed maps: single elements, and batches that get as far as they can and say how far.

A batched call costs 0.5-1 us an element, a single one 2-3 us. Kernels without the batched form of a
map type answer ENOTSUPP (LPM tries before 5.19) or EINVAL; then elements go one by one.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, cast

from cilia.abi.codec import K, MapLayout, V, raw
from cilia.datapath.descriptor import Descriptor, checked, ffi, get_pinned, lib
from cilia.datapath.errors import ENOTSUPP, MapError, MapFull, MapMismatch

DUMP_STEP = 4096
"""Elements asked for at a time when a map is read whole."""

UNSUPPORTED = frozenset({ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL})
"""What a kernel may answer that has no batched form of an operation."""

FULL = frozenset({errno.E2BIG, errno.ENOSPC})
"""A hash, and an LPM trie, without room."""

PER_CPU_KINDS = frozenset({5, 6, 10, 21})
"""BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE."""


class MapInfo(NamedTuple):
    """What the kernel says of a map; sizes in bytes."""

    id: int
    kind: int
    """BPF_MAP_TYPE_*."""
    key_size: int
    value_size: int
    max_entries: int
    flags: int


def map_info(fd: int) -> MapInfo:
    """Ask the kernel for the map behind ``fd``; raises KernelError."""
    info = ffi.new("struct cilia_map_info *")
    checked(lib.cilia_map_info(fd, info), "ask for a map")
    return MapInfo(info.id, info.type, info.key_size, info.value_size, info.max_entries, info.flags)


def open_map_info(path: Path) -> MapInfo:
    """Ask for the map pinned at ``path``; raises NotPinned."""
    fd = get_pinned(path)
    try:
        return map_info(fd)
    finally:
        os.close(fd)


def memory_bytes(fd: int) -> int:
    """Give the memory that the map behind ``fd`` takes, as the kernel accounts for it."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "memlock":
            return int(value)
    return 0


class Map(Descriptor, Generic[K, V]):
    """A map of one value per key: hash, LRU, LPM trie or array.

    Not for per-CPU kinds (see PerCpuMap).
    """

    def __init__(self, fd: int, layout: MapLayout[K, V]) -> None:
        """Take over ``fd``.

        Raises:
            MapMismatch: Its keys or values have other sizes than the layout's.
        """
        super().__init__(fd)
        self.layout = layout
        self.name = layout.name
        self.info = map_info(fd)
        self._pack_key, self._pack_value = layout.key.pack, layout.value.pack
        sizes = {
            "key_size": (self.info.key_size, layout.key.size),
            "value_size": (self.info.value_size, layout.value.size),
        }
        differences = {what: pair for what, pair in sizes.items() if pair[0] != pair[1]}
        if differences:
            self.close()
            raise MapMismatch(layout.name, differences)

    @classmethod
    def open_pinned(cls, directory: Path, layout: MapLayout[K, V]) -> Self:
        """Open the map pinned under its name in ``directory``; raises NotPinned, MapMismatch."""
        return cls(get_pinned(directory / layout.name), layout)

    @property
    def memory_bytes(self) -> int:
        """Memory it takes in the kernel."""
        return memory_bytes(self.fileno())

    def lookup(self, key: K) -> V | None:
        """Give the value of ``key`` (in an LPM trie, of the longest prefix that covers it), or
        None.
        """
        data = self._lookup_bytes(self._pack_key(key))
        return None if data is None else self.layout.value.unpack(data)

    def update(self, key: K, value: V) -> None:
        """Set ``key`` to ``value``, atomically for readers in a hash; raises MapFull, MapError."""
        self._update_bytes(self._pack_key(key), self._pack_value(value), done=0)

    def delete(self, key: K) -> bool:
        """Remove ``key``; tell whether it was there."""
        return self._delete_bytes(self._pack_key(key))

    def update_many(self, entries: Iterable[tuple[K, V]]) -> int:
        """Set every key to its value, in order; give their number.

        Raises:
            MapFull: ``done`` elements from the front are written, and stay.
            MapError: An element was refused; those before it are written.
        """
        keys, values = bytearray(), bytearray()
        count = 0
        for key, value in entries:
            keys += self._pack_key(key)
            values += self._pack_value(value)
            count += 1
        self.update_packed(keys, values, count)
        return count

    def update_packed(self, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
        """Do as update_many with elements that are packed already, one after the other."""
        key_size, value_size = self.layout.key.size, self._value_room()
        key_data, value_data = ffi.from_buffer(keys), ffi.from_buffer(values)
        done, batched = 0, True
        while done < count:
            if batched:
                more, error = _batch(
                    count - done,
                    lambda size, at=done: lib.cilia_update_batch(
                        self.fileno(), key_data + at * key_size, value_data + at * value_size, size
                    ),
                )
                done += more
                batched = error not in UNSUPPORTED
                if not error:
                    return
            # The element at which the batch stopped, by itself: it passes, or its error names it.
            key = bytes(keys[done * key_size : (done + 1) * key_size])
            value = bytes(values[done * value_size : (done + 1) * value_size])
            self._update_bytes(key, value, done=done)
            done += 1

    def delete_many(self, keys: Iterable[K]) -> int:
        """Remove every key; give how many were there."""
        return self.delete_packed(b"".join(map(self._pack_key, keys)))

    def delete_packed(self, packed: bytes) -> int:
        """Do as delete_many with keys that are packed already, one after the other."""
        size = self.layout.key.size
        count, data = len(packed) // size, ffi.from_buffer(packed)
        done = removed = 0
        batched = True
        while done < count:
            if batched:
                more, error = _batch(
                    count - done, lambda size_, at=done: lib.cilia_delete_batch(self.fileno(), data + at * size, size_)
                )
                done, removed = done + more, removed + more
                batched = error not in UNSUPPORTED
                if not error:
                    break
            removed += self._delete_bytes(packed[done * size : (done + 1) * size])
            done += 1
        return removed

    def items(self) -> list[tuple[K, V]]:
        """Read the whole map.

        While others write, an entry that comes or goes meanwhile may or may not be there, and one
        may be there twice; in an array every element is there.
        """
        key, value = self.layout.key, self.layout.value
        keys, values = self._dump()
        return [
            (key.unpack(keys[at * key.size : (at + 1) * key.size]), value.unpack(values[offset : offset + value.size]))
            for at, offset in enumerate(range(0, len(values), value.size))
        ]

    def digest(self) -> int:
        """Return the digest of the whole map: the sum of :meth:`digest_of` over its elements,
        modulo 2^64.
        """
        keys, values = self._dump()
        return self._digest_packed(keys, values)

    def digest_of(self, entries: Iterable[tuple[K, V]]) -> int:
        """Return the digest of some elements, whether they are there or not."""
        keys, values = bytearray(), bytearray()
        for key, value in entries:
            keys += self._pack_key(key)
            values += self._pack_value(value)
        return self._digest_packed(keys, values)

    def _digest_packed(self, keys: bytearray | memoryview, values: bytearray | memoryview) -> int:
        key, value = self.layout.key.size, self.layout.value.size
        return int(lib.cilia_digest(ffi.from_buffer(keys), key, ffi.from_buffer(values), value, len(keys) // key))

    def keys(self) -> Iterator[K]:
        """Walk the keys, one call each; a walk past a removed key begins anew, so one may come
        twice.
        """
        return map(self.layout.key.unpack, self._walk())

    def _lookup_bytes(self, key: bytes) -> bytes | None:
        value = bytearray(self._value_room())
        result = lib.bpf_map_lookup_elem(self.fileno(), key, ffi.from_buffer(value))
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise MapError(self.name, "lookup", -result, key)
        return bytes(value)

    def _update_bytes(self, key: bytes, value: bytes, *, done: int) -> None:
        result = lib.bpf_map_update_elem(self.fileno(), key, value, 0)
        if -result in FULL:
            raise MapFull(self.name, self.info.max_entries, -result, key=key, done=done)
        if result < 0:
            raise MapError(self.name, "update", -result, key)

    def _delete_bytes(self, key: bytes) -> bool:
        result = lib.bpf_map_delete_elem(self.fileno(), key)
        if result < 0 and result != -errno.ENOENT:
            raise MapError(self.name, "delete", -result, key)
        return bool(result == 0)

    def _value_room(self) -> int:
        return self.layout.value.size

    def _walk(self) -> Iterator[bytes]:
        following = bytearray(self.layout.key.size)
        at: Any = ffi.NULL
        # Writers can send a walk back to the start; it still ends.
        for _ in range(2 * self.info.max_entries):
            result = lib.bpf_map_get_next_key(self.fileno(), at, ffi.from_buffer(following))
            if result == -errno.ENOENT:
                return
            if result < 0:
                raise MapError(self.name, "walk", -result)
            at = bytes(following)
            yield at

    def _dump(self) -> tuple[memoryview, memoryview]:
        try:
            return self._dump_batched()
        except MapError as refused:
            if refused.errno not in UNSUPPORTED | {errno.EINTR}:  # EINTR: too many removals under the reader
                raise
        pairs = [(key, value) for key in self._walk() if (value := self._lookup_bytes(key)) is not None]
        return memoryview(b"".join(key for key, _ in pairs)), memoryview(b"".join(value for _, value in pairs))

    def _dump_batched(self) -> tuple[memoryview, memoryview]:
        keys, values = bytearray(), bytearray()
        for some_keys, some_values in self.batches():
            keys += some_keys
            values += some_values
        return memoryview(keys), memoryview(values)

    def batches(self, step: int = DUMP_STEP) -> Iterator[tuple[memoryview, memoryview]]:
        """Read the whole map in steps of about ``step`` elements, packed; between two steps others
        may run.

        Raises:
            MapError: EINTR if too many removals went on meanwhile; ENOTSUPP, EINVAL if the kernel
                can't.
        """
        step = min(step, self.info.max_entries)
        key_size, room = self.layout.key.size, self._value_room()
        after, cursor = ffi.NULL, ffi.new("char[]", max(key_size, 8))  # a trie's cursor is a key, a hash's a u32
        while True:
            some_keys, some_values = bytearray(step * key_size), bytearray(step * room)
            size = ffi.new("uint32_t *", step)
            result = lib.cilia_lookup_batch(
                self.fileno(), after, cursor, ffi.from_buffer(some_keys), ffi.from_buffer(some_values), size
            )
            if result == -errno.ENOSPC:  # a bucket of the hash holds more than a step
                step *= 2
                continue
            if result < 0 and result != -errno.ENOENT:
                raise MapError(self.name, "read", -result)
            yield memoryview(some_keys)[: size[0] * key_size], memoryview(some_values)[: size[0] * room]
            if result:
                return
            after = ffi.new("char[]", bytes(ffi.buffer(cursor)))


class PerCpuMap(Map[K, V]):
    """A map with one value a key and CPU; what it gives is the sum over CPUs, field by field.

    Values are integers, or structs whose fields all are.
    """

    def lookup(self, key: K) -> V | None:
        """Give the sum for ``key``, or None."""
        data = self._lookup_bytes(self._pack_key(key))
        return None if data is None else self._sum(memoryview(data))

    def items(self) -> list[tuple[K, V]]:
        """Read the whole map, summed."""
        keys, values = self._dump()
        size, room = self.layout.key.size, self._value_room()
        return [
            (self.layout.key.unpack(keys[at * size : (at + 1) * size]), self._sum(values[offset : offset + room]))
            for at, offset in enumerate(range(0, len(values), room))
        ]

    def update_packed(self, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
        """Refuse: only programs write here."""
        raise MapError(self.name, "update from outside", errno.EPERM)

    def update(self, key: K, value: V) -> None:
        """Refuse: only programs write here."""
        raise MapError(self.name, "update from outside", errno.EPERM, self._pack_key(key))

    def _stride(self) -> int:
        return (self.layout.value.size + 7) & ~7

    def _value_room(self) -> int:
        return self._stride() * _possible_cpus()

    def _sum(self, data: memoryview) -> V:
        unpack, size = self.layout.value.unpack, self.layout.value.size
        values = [unpack(data[offset : offset + size]) for offset in range(0, len(data), self._stride())]
        return _added(values)


class RawMap(Map[bytes, bytes]):
    """A map of any layout: packed keys, and packed values; of a map with a value per CPU, all of
    them in a row.
    """

    def __init__(self, fd: int, name: str) -> None:
        """Take over ``fd``."""
        info = map_info(fd)
        kind = str(info.kind)
        super().__init__(fd, MapLayout(name, kind, raw(info.key_size), raw(info.value_size), info.max_entries))
        if info.kind in PER_CPU_KINDS:
            room = ((info.value_size + 7) & ~7) * _possible_cpus()
            self.layout = MapLayout(name, kind, raw(info.key_size), raw(room), info.max_entries)
            self._pack_value = self.layout.value.pack

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Read the whole map; what comes or goes meanwhile may or may not be there."""
        keys, values = self._dump()
        size, room = self.layout.key.size, self.layout.value.size
        for at in range(len(keys) // size if size else 0):
            yield bytes(keys[at * size : (at + 1) * size]), bytes(values[at * room : (at + 1) * room])

    def _value_room(self) -> int:
        return self.layout.value.size


def _possible_cpus() -> int:
    return checked(lib.libbpf_num_possible_cpus(), "count the CPUs")


def _added(values: Sequence[V]) -> V:
    if not isinstance(values[0], tuple):
        return cast(V, sum(cast(Sequence[int], values)))
    sums = map(sum, zip(*cast(Sequence[tuple[int, ...]], values), strict=True))
    return cast(V, cast(Any, type(values[0]))(*sums))


def _batch(count: int, call: Any) -> tuple[int, int]:
    """Perform a batched call of ``count`` elements; give how many are done and the error, 0 if
    none.

    A call refused before its first element leaves the count as it was.
    """
    size = ffi.new("uint32_t *", count)
    result = call(size)
    if result == 0:
        return count, 0
    return (0 if size[0] >= count else size[0]), -result
