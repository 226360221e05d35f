"""Typed maps with a value for each key and CPU, summed over CPUs by the reader."""

import errno
from collections.abc import Sequence
from typing import Any, cast

from cilia.abi.codec import K, V
from cilia.datapath.errors import MapError
from cilia.datapath.map_info import padded
from cilia.datapath.maps import Map


class PerCpuMap(Map[K, V]):
    """A map whose values are the sums over CPUs, field by field.

    Values are integers, or structs whose fields all are. Only programs write it.
    """

    def lookup(self, key: K) -> V | None:
        """Return the sum for ``key``, or None."""
        data = self.lookup_bytes(self._pack_key(key))
        return None if data is None else self._sum(memoryview(data))

    def items(self) -> list[tuple[K, V]]:
        """Read the whole map, summed."""
        return [(self.layout.key.unpack(key), self._sum(values)) for key, values in self.pairs()]

    def update_packed(self, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
        """Refuse; raises MapError."""
        raise MapError(self.name, "update from outside", errno.EPERM)

    def update(self, key: K, value: V) -> None:
        """Refuse; raises MapError."""
        raise MapError(self.name, "update from outside", errno.EPERM, self._pack_key(key))

    def _sum(self, data: memoryview) -> V:
        size, unpack = self.layout.value.size, self.layout.value.unpack
        return added([unpack(data[at : at + size]) for at in range(0, len(data), padded(size))])


def added(values: Sequence[V]) -> V:
    """Return the sum of integers, or of structs field by field."""
    if not isinstance(values[0], tuple):
        return cast(V, sum(cast(Sequence[int], values)))
    sums = map(sum, zip(*cast(Sequence[tuple[int, ...]], values), strict=True))
    return cast(V, cast(Any, type(values[0]))(*sums))
