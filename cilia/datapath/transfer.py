"""Transfer of a map's entries into another map of its name, which has another layout or size.

Maps of kind LRU and those with a value per CPU are written by the programs, which go on while
entries are copied; what they change meanwhile is brought in afterwards. All others are written by
the agent alone.
"""

from collections.abc import Iterator
from typing import Final

from cilia.abi.kinds import LRU, TRANSIENT
from cilia.datapath.conversion import DoesNotFit, Field, conversion, fields_of
from cilia.datapath.errors import CannotMigrate
from cilia.datapath.map_info import padded
from cilia.datapath.map_types import Types
from cilia.datapath.raw_map import RawMap

COUNTERS: Final = frozenset({"packets", "bytes"})
"""Fields that programs add to: where old and new programs met the same flow, both count."""
FLAGS: Final = frozenset({"tcp_flags"})
"""Fields that programs or bits into, likewise."""


class Transfer:
    """One map's transfer. Owns neither map."""

    def __init__(self, old: RawMap, new: RawMap, old_types: Types, new_types: Types) -> None:
        """Compare the layouts.

        Raises:
            CannotMigrate: Only one of the two has a value per CPU.
        """
        self.name = new.name
        self._old, self._new = old, new
        self._is_per_cpu = new.info.is_per_cpu
        if old.info.is_per_cpu is not self._is_per_cpu:
            raise CannotMigrate(self.name, f"kind {old.info.kind} can't become kind {new.info.kind}")
        self._key = conversion(old_types[0], new_types[0])
        self._value = conversion(old_types[1], new_types[1])
        self._is_lossy = new.info.kind in LRU
        self._is_transient = new.info.kind in TRANSIENT
        fields = tuple(fields_of(new_types[1]))
        self._added = tuple(field for field in fields if _last_name(field) in COUNTERS)
        self._ored = tuple(field for field in fields if _last_name(field) in FLAGS)
        self._copied: dict[bytes, bytes] = {}

    def copy(self) -> int:
        """Copy every entry; return their number.

        Raises:
            CannotMigrate: A value doesn't fit into the new layout; but a flow is left out.
            MapFull: The new map is too small.
        """
        if self._is_transient:
            return 0
        keys, values = bytearray(), bytearray()
        count = 0
        for key, value in self._entries():
            if self._is_live:
                self._copied[key] = value
            converted = self._converted(key, value)
            if converted:
                keys += converted[0]
                values += converted[1]
                count += 1
        self._new.update_packed(keys, values, count)
        return count

    def catch_up(self) -> int:
        """Copy what programs have written to the old map since ``copy``; return how many entries.

        A program that writes to the same new entry in these microseconds may lose a count, as two
        CPUs may.
        """
        if not self._is_live or self._is_transient:
            return 0
        changed = 0
        for key, value in self._entries():
            before = self._copied.get(key)
            if before == value:
                continue
            converted = self._converted(key, value)
            if converted:
                self._merge(*converted, self._converted(key, before) if before else None)
                changed += 1
            self._copied[key] = value
        return changed

    def insert_missing(self) -> int:
        """Copy entries that the new map lacks since their copier died; return their number."""
        if self._is_transient or self._is_per_cpu:
            return 0
        missing = 0
        for key, value in self._entries():
            converted = self._converted(key, value)
            if converted and self._new.lookup_bytes(converted[0]) is None:
                self._new.update_bytes(*converted)
                missing += 1
        return missing

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        return ((bytes(key), bytes(value)) for key, value in self._old.pairs())

    @property
    def _is_live(self) -> bool:
        return self._is_lossy or self._is_per_cpu

    def _converted(self, key: bytes, value: bytes) -> tuple[bytes, bytes] | None:
        try:
            return self._key(key), self._each_cpu(value)
        except DoesNotFit as problem:
            if self._is_lossy:
                return None
            raise CannotMigrate(self.name, str(problem)) from problem

    def _each_cpu(self, value: bytes) -> bytes:
        if not self._is_per_cpu:
            return self._value(value)
        old, new = self._value.old_size, self._value.new_size
        parts = (self._value(value[at : at + old]) for at in range(0, len(value), padded(old)))
        return b"".join(part.ljust(padded(new), b"\0") for part in parts)

    def _merge(self, key: bytes, value: bytes, before: tuple[bytes, bytes] | None) -> None:
        current = self._new.lookup_bytes(key)
        if current is None or (before and current == before[1]):
            self._new.update_bytes(key, value)
            return
        room = padded(self._value.new_size) if self._is_per_cpu else len(value)
        zero = bytes(len(value))
        self._new.update_bytes(
            key,
            b"".join(
                self._merged(
                    current[at : at + room], (before[1] if before else zero)[at : at + room], value[at : at + room]
                )
                for at in range(0, len(value), room)
            ),
        )

    def _merged(self, current: bytes, before: bytes, value: bytes) -> bytes:
        """Return what the new programs wrote, with what the old ones counted since."""
        out = bytearray(current)
        for field in self._added:
            field.put(out, (field.get(current) + field.get(value) - field.get(before)) % (1 << field.width))
        for field in self._ored:
            field.put(out, field.get(current) | field.get(value))
        return bytes(out)


def _last_name(field: Field) -> str:
    return field.path.rpartition(".")[2].partition("[")[0]
