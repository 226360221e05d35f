"""Maps of packed keys and values: single elements, and batches that get as far as they can and say
how far.

A batched call costs 0.5-1 us an element, a single one 2-3 us. Kernels without the batched form of a
map type answer ENOTSUPP (LPM tries before 5.19) or EINVAL; then elements go one by one.
"""

import errno
from collections.abc import Iterator
from typing import Any, Final

from cilia.datapath.descriptor import Descriptor, ffi, lib
from cilia.datapath.errors import ENOTSUPP, MapError, MapFull
from cilia.datapath.map_info import map_info, memory_bytes

DUMP_STEP: Final = 4096
"""Elements asked for at a time when a map is read whole."""

UNSUPPORTED: Final = frozenset({ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL})
"""Errors of a kernel that has no batched form of an operation."""

FULL: Final = frozenset({errno.E2BIG, errno.ENOSPC})
"""Errors of a hash, and of an LPM trie, without room."""

Packed = bytes | bytearray | memoryview


class RawMap(Descriptor):
    """A map of any layout; a value is that of all CPUs in a row where each has one."""

    def __init__(self, fd: int, name: str) -> None:
        """Take over ``fd``."""
        super().__init__(fd)
        self.name = name
        self.info = map_info(fd)
        self.key_bytes, self.element_bytes = self.info.key_size, self.info.element_bytes

    @property
    def memory_bytes(self) -> int:
        """Memory it takes in the kernel."""
        return memory_bytes(self.fileno())

    def lookup_bytes(self, key: bytes) -> bytes | None:
        """Return the value of ``key`` (in an LPM trie, of the longest prefix over it), or None."""
        value = bytearray(self.element_bytes)
        result = lib.bpf_map_lookup_elem(self.fileno(), key, ffi.from_buffer(value))
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise MapError(self.name, "lookup", -result, key)
        return bytes(value)

    def update_bytes(self, key: bytes, value: bytes, *, done: int = 0) -> None:
        """Set ``key`` to ``value``; raises MapFull, which says ``done``, and MapError."""
        result = lib.bpf_map_update_elem(self.fileno(), key, value, 0)
        if -result in FULL:
            raise MapFull(self.name, self.info.max_entries, -result, key=key, done=done)
        if result < 0:
            raise MapError(self.name, "update", -result, key)

    def delete_bytes(self, key: bytes) -> bool:
        """Remove ``key``; tell whether it was there."""
        result = lib.bpf_map_delete_elem(self.fileno(), key)
        if result < 0 and result != -errno.ENOENT:
            raise MapError(self.name, "delete", -result, key)
        return bool(result == 0)

    def update_packed(self, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
        """Set ``count`` keys to their values, each one after the other, in order.

        Raises:
            MapFull: ``done`` elements from the front are written, and stay.
            MapError: An element was refused; those before it are written.
        """
        key_size, value_size = self.key_bytes, self.element_bytes
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
            self.update_bytes(key, value, done=done)
            done += 1

    def delete_packed(self, packed: bytes) -> int:
        """Remove every key of ``packed``, where they stand in a row; return how many were there."""
        size = self.key_bytes
        count, data = len(packed) // size, ffi.from_buffer(packed)
        done = removed = 0
        batched = True
        while done < count:
            if batched:
                more, error = _batch(
                    count - done,
                    lambda size_, at=done: lib.cilia_delete_batch(self.fileno(), data + at * size, size_),
                )
                done, removed = done + more, removed + more
                batched = error not in UNSUPPORTED
                if not error:
                    break
            removed += self.delete_bytes(packed[done * size : (done + 1) * size])
            done += 1
        return removed

    def pairs(self) -> Iterator[tuple[memoryview, memoryview]]:
        """Read the whole map, as ``items`` does."""
        keys, values = self.dump()
        size, room = self.key_bytes, self.element_bytes
        for at in range(len(keys) // size if size else 0):
            yield keys[at * size : (at + 1) * size], values[at * room : (at + 1) * room]

    def walk(self) -> Iterator[bytes]:
        """Walk the keys, one call each; past a removed key a walk begins anew, and repeats some."""
        following = bytearray(self.key_bytes)
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

    def dump(self) -> tuple[memoryview, memoryview]:
        """Read all keys and all values, each in a row.

        While others write, an entry that comes or goes meanwhile may or may not be there, and one
        may be there twice; in an array every element is there.
        """
        try:
            return self._dump_batched()
        except MapError as refused:
            if refused.errno not in UNSUPPORTED | {errno.EINTR}:  # EINTR: too many removals under the reader
                raise
        pairs = [(key, value) for key in self.walk() if (value := self.lookup_bytes(key)) is not None]
        return memoryview(b"".join(key for key, _ in pairs)), memoryview(b"".join(value for _, value in pairs))

    def _dump_batched(self) -> tuple[memoryview, memoryview]:
        keys, values = bytearray(), bytearray()
        for some_keys, some_values in self.batches():
            keys += some_keys
            values += some_values
        return memoryview(keys), memoryview(values)

    def batches(self, step: int = DUMP_STEP) -> Iterator[tuple[memoryview, memoryview]]:
        """Read the whole map in steps of about ``step`` elements; between two steps others may run.

        Raises:
            MapError: EINTR if too many removals went on meanwhile; ENOTSUPP, EINVAL if the kernel
                can't.
        """
        step = min(step, self.info.max_entries)
        key_size, room = self.key_bytes, self.element_bytes
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


def _batch(count: int, call: Any) -> tuple[int, int]:
    """Perform a batched call of ``count`` elements; return how many are done, and the error or 0.

    A call refused before its first element leaves the count as it was.
    """
    size = ffi.new("uint32_t *", count)
    result = call(size)
    if result == 0:
        return count, 0
    return (0 if size[0] >= count else size[0]), -result
