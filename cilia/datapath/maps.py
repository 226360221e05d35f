"""Typed maps: keys and values as :mod:`cilia.abi` has them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, Self

from cilia.abi.codec import K, MapLayout, V
from cilia.datapath.descriptor import ffi, get_pinned, lib
from cilia.datapath.errors import MapMismatch
from cilia.datapath.raw_map import RawMap


class Map(RawMap, Generic[K, V]):
    """A map of one value per key: hash, LRU, LPM trie or array.

    Not for per-CPU kinds (see PerCpuMap).
    """

    def __init__(self, fd: int, layout: MapLayout[K, V]) -> None:
        """Take over ``fd``.

        Raises:
            MapMismatch: Its keys or values have other sizes than the layout's.
        """
        super().__init__(fd, layout.name)
        self.layout = layout
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

    def lookup(self, key: K) -> V | None:
        """Return the value of ``key`` (in an LPM trie, of the longest prefix over it), or None."""
        data = self.lookup_bytes(self._pack_key(key))
        return None if data is None else self.layout.value.unpack(data)

    def update(self, key: K, value: V) -> None:
        """Set ``key`` to ``value``, atomically for readers in a hash; raises MapFull, MapError."""
        self.update_bytes(self._pack_key(key), self._pack_value(value))

    def delete(self, key: K) -> bool:
        """Remove ``key``; tell whether it was there."""
        return self.delete_bytes(self._pack_key(key))

    def update_many(self, entries: Iterable[tuple[K, V]]) -> int:
        """Set every key to its value, in order; return their number.

        Raises:
            MapFull: ``done`` elements from the front are written, and stay.
            MapError: An element was refused; those before it are written.
        """
        keys, values = self._packed(entries)
        count = len(keys) // self.key_bytes
        self.update_packed(keys, values, count)
        return count

    def delete_many(self, keys: Iterable[K]) -> int:
        """Remove every key; return how many were there."""
        return self.delete_packed(b"".join(map(self._pack_key, keys)))

    def items(self) -> list[tuple[K, V]]:
        """Read the whole map; see dump for what others write meanwhile."""
        unpack_key, unpack_value = self.layout.key.unpack, self.layout.value.unpack
        return [(unpack_key(key), unpack_value(value)) for key, value in self.pairs()]

    def keys(self) -> Iterator[K]:
        """Walk the keys; see walk for what others remove meanwhile."""
        return map(self.layout.key.unpack, self.walk())

    def digest(self) -> int:
        """Return the digest of the whole map: the sum of its elements' digests, modulo 2^64."""
        keys, values = self.dump()
        return self._digest_packed(keys, values)

    def digest_of(self, entries: Iterable[tuple[K, V]]) -> int:
        """Return the digest of some elements, whether they are there or not."""
        return self._digest_packed(*self._packed(entries))

    def _packed(self, entries: Iterable[tuple[K, V]]) -> tuple[bytearray, bytearray]:
        keys, values = bytearray(), bytearray()
        for key, value in entries:
            keys += self._pack_key(key)
            values += self._pack_value(value)
        return keys, values

    def _digest_packed(self, keys: bytearray | memoryview, values: bytearray | memoryview) -> int:
        key, value = self.layout.key.size, self.layout.value.size
        return int(lib.cilia_digest(ffi.from_buffer(keys), key, ffi.from_buffer(values), value, len(keys) // key))
