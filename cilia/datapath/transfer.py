"""The entries of one map on their way into another of its name, which has another layout or size.

Maps of kind LRU and those with a value per CPU are written by the programs, which go on while
entries are copied; what they change meanwhile is brought in afterwards. All others are written by
the agent alone.
"""

from typing import Final

from cilia.datapath.conversion import DoesNotFit, Place, conversion, places
from cilia.datapath.errors import CannotMigrate
from cilia.datapath.maps import PER_CPU_KINDS, RawMap
from cilia.datapath.types import Types

LRU_KINDS: Final = frozenset({9, 10})
"""BPF_MAP_TYPE_LRU_HASH, LRU_PERCPU_HASH."""
WITHOUT_ENTRIES: Final = frozenset({3, 27})
"""BPF_MAP_TYPE_PROG_ARRAY, RINGBUF: what they hold doesn't outlive their readers."""
COUNTERS: Final = frozenset({"packets", "bytes"})
FLAGS: Final = frozenset({"tcp_flags"})
"""Fields that programs add to, and those that they or into: where old and new programs met the same
flow, both count.
"""


class Transfer:
    """One map's way. Owns neither map."""

    def __init__(self, old: RawMap, new: RawMap, old_types: Types, new_types: Types) -> None:
        """Compare the layouts.

        Raises:
            CannotMigrate: Only one of the two has a value per CPU.
        """
        self.name = new.name
        self._old, self._new = old, new
        self._is_per_cpu = new.info.kind in PER_CPU_KINDS
        if (old.info.kind in PER_CPU_KINDS) is not self._is_per_cpu:
            raise CannotMigrate(self.name, f"kind {old.info.kind} can't become kind {new.info.kind}")
        self._key = conversion(old_types[0], new_types[0])
        self._value = conversion(old_types[1], new_types[1])
        self._is_lossy = new.info.kind in LRU_KINDS
        self._added = tuple(p for p in places(new_types[1]) if _last_name(p) in COUNTERS)
        self._ored = tuple(p for p in places(new_types[1]) if _last_name(p) in FLAGS)
        self._copied: dict[bytes, bytes] = {}

    def copy(self) -> int:
        """Copy every entry; return their number.

        Raises:
            CannotMigrate: A value has no place in the new layout. Of a flow, which is only left
                out, it is no error.
            MapFull: The new map is too small.
        """
        if self._new.info.kind in WITHOUT_ENTRIES:
            return 0
        keys, values = bytearray(), bytearray()
        count = 0
        for key, value in self._old.pairs():
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
        """Bring in what programs have written to the old map since ``copy``; return how many
        entries that were.

        A program that writes to the same new entry in these microseconds may lose a count, as two
        CPUs may.
        """
        if not self._is_live or self._new.info.kind in WITHOUT_ENTRIES:
            return 0
        changed = 0
        for key, value in self._old.pairs():
            before = self._copied.get(key)
            if before == value:
                continue
            converted = self._converted(key, value)
            if converted:
                self._bring_in(*converted, self._converted(key, before) if before else None)
                changed += 1
            self._copied[key] = value
        return changed

    def insert_missing(self) -> int:
        """Copy entries whose keys the new map doesn't have; return their number.

        For one whose copier died.
        """
        if self._new.info.kind in WITHOUT_ENTRIES or self._is_per_cpu:
            return 0
        missing = 0
        for key, value in self._old.pairs():
            converted = self._converted(key, value)
            if converted and self._new.lookup(converted[0]) is None:
                self._new.update(*converted)
                missing += 1
        return missing

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
        parts = (self._value(value[at : at + old]) for at in range(0, len(value), stride(old)))
        return b"".join(part.ljust(stride(new), b"\0") for part in parts)

    def _bring_in(self, key: bytes, value: bytes, before: tuple[bytes, bytes] | None) -> None:
        current = self._new.lookup(key)
        if current is None or (before and current == before[1]):
            self._new.update(key, value)
            return
        room = stride(self._value.new_size) if self._is_per_cpu else len(value)
        zero = bytes(len(value))
        self._new.update(
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
        for place in self._added:
            place.put(out, (place.get(current) + place.get(value) - place.get(before)) % (1 << place.width))
        for place in self._ored:
            place.put(out, place.get(current) | place.get(value))
        return bytes(out)


def stride(size: int) -> int:
    """Return how far apart values per CPU lie."""
    return (size + 7) & ~7


def _last_name(place: Place) -> str:
    return place.field.rpartition(".")[2].partition("[")[0]
