"""Types, and maps in memory, for tests of what needs no kernel."""

from collections.abc import Iterator

from cilia.abi.kinds import MapKind
from cilia.datapath.errors import MapFull
from cilia.datapath.layout import Integer, Member, Struct, Type
from cilia.datapath.map_info import MapInfo

U8, U16, U32, U64 = (Integer(f"__u{8 * size}", size) for size in (1, 2, 4, 8))
S16, S32 = Integer("__s16", 2, is_signed=True), Integer("__s32", 4, is_signed=True)
BE16, BE32 = Integer("__be16", 2), Integer("__be32", 4)


def struct(size: int, *members: tuple[str, Type, int] | tuple[str, Type, int, int]) -> Struct:
    """Make a struct of members as (name, type, offset in bits, width of a bitfield)."""
    return Struct("some", size, tuple(Member(*member[:3], (*member, 0)[3]) for member in members))


class MemoryMap:
    """A RawMap in memory; what the programs do in the middle of a walk is given by a test."""

    def __init__(self, name: str, kind: MapKind, key_size: int, value_size: int, max_entries: int = 100) -> None:
        self.name = name
        self.info = MapInfo(1, kind, key_size, value_size, max_entries, 0)
        self.entries: dict[bytes, bytes] = {}

    def pairs(self) -> Iterator[tuple[memoryview, memoryview]]:
        for key, value in list(self.entries.items()):
            yield memoryview(key), memoryview(value)

    def lookup_bytes(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def update_bytes(self, key: bytes, value: bytes, *, done: int = 0) -> None:
        assert len(value) == self.info.element_bytes
        if key not in self.entries and len(self.entries) == self.info.max_entries:
            raise MapFull(self.name, self.info.max_entries, 7, key=key, done=done)
        self.entries[key] = value

    def update_packed(self, keys: bytes | bytearray, values: bytes | bytearray, count: int) -> None:
        key_size, room = self.info.key_size, self.info.element_bytes
        for at in range(count):
            key = bytes(keys[at * key_size : (at + 1) * key_size])
            self.update_bytes(key, bytes(values[at * room : (at + 1) * room]), done=at)
