"""Maps of the data plane in memory, by their layouts, with failures to order."""

import errno
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Generic, Self, TypeVar, cast

from cilia.abi.codec import Codec, MapLayout
from cilia.datapath.errors import MapError, MapFull
from cilia.datapath.objects import LoadedObject

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class FakeMap(Generic[K, V]):
    """A map; ``refusals`` is for how many reads the kernel refuses."""

    def __init__(self, layout: MapLayout[K, V], capacity: int | None = None) -> None:
        self.layout = layout
        self.name = layout.name
        self.capacity = layout.max_entries if capacity is None else capacity
        self.held: dict[K, V] = {}
        self.refusals = 0
        self.between_batches: Callable[[], None] = lambda: None
        self.closed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1

    @property
    def info(self) -> SimpleNamespace:
        """Return what the agent asks the kernel of a map."""
        return SimpleNamespace(max_entries=self.capacity)

    def update_packed(self, keys: bytes, values: bytes, count: int) -> int:
        entries = list(
            zip(self._unpacked(keys, self.layout.key), self._unpacked(values, self.layout.value), strict=True)
        )
        assert len(entries) == count
        return self.update_many(entries)

    def delete_packed(self, keys: bytes) -> int:
        return self.delete_many(self._unpacked(keys, self.layout.key))

    def _unpacked(self, data: bytes, codec: Codec[T]) -> list[T]:
        return [codec.unpack(data[at : at + codec.size]) for at in range(0, len(data), codec.size)]

    def lookup(self, key: K) -> V | None:
        return self.held.get(key)

    def items(self) -> list[tuple[K, V]]:
        return list(self.held.items())

    def digest(self) -> int:
        return self.digest_of(self.held.items())

    def digest_of(self, entries: Iterable[tuple[K, V]]) -> int:
        """Return the sum of hashes, as the real one, though of others."""
        return sum(hash(each) % 1_000_003 for each in entries)

    def batches(self, step: int = 128) -> Iterator[tuple[bytes, bytes]]:
        """Give what was held at the start, in packed steps."""
        entries = list(self.held.items())
        for at in range(0, max(len(entries), 1), step):
            if self.refusals:
                self.refusals -= 1
                raise MapError(self.name, "read", errno.EINTR)
            some = entries[at : at + step]
            keys = b"".join(self.layout.key.pack(key) for key, _ in some)
            yield keys, b"".join(self.layout.value.pack(value) for _, value in some)
            self.between_batches()

    def update(self, key: K, value: V) -> None:
        self.update_many([(key, value)])

    def update_many(self, entries: Iterable[tuple[K, V]]) -> int:
        done = 0
        for key, value in entries:
            if key not in self.held and len(self.held) >= self.capacity:
                raise MapFull(self.name, self.capacity, errno.E2BIG, key=self.layout.key.pack(key), done=done)
            self.held[key] = value
            done += 1
        return done

    def delete(self, key: K) -> bool:
        return self.held.pop(key, None) is not None

    def delete_many(self, keys: Iterable[K]) -> int:
        return sum(self.delete(key) for key in keys)


class FakeObjects:
    """Loaded data plane whose maps are in memory; a map that is opened twice is one map."""

    def __init__(self, **capacities: int) -> None:
        self._capacities = capacities
        self._maps: dict[str, FakeMap[Any, Any]] = {}

    def map(self, layout: MapLayout[K, V]) -> FakeMap[K, V]:
        if layout.name not in self._maps:
            self._maps[layout.name] = FakeMap(layout, self._capacities.get(layout.name))
        return self._maps[layout.name]

    @property
    def loaded(self) -> LoadedObject:
        """Itself, for code under test."""
        return cast(LoadedObject, self)


class FakeArrayMemory:
    """Words of an array, shared by all who open it, as the programs see them."""

    def __init__(self, array: FakeMap[int, Any]) -> None:
        self._words: dict[tuple[int, int], int] = array.__dict__.setdefault("words", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""

    def load_u32(self, index: int, offset: int = 0) -> int:
        return self._words.get((index, offset), 0)

    load_u64 = load_u32

    def store_u32(self, index: int, value: int, offset: int = 0) -> None:
        assert value < 1 << 32
        self._words[index, offset] = value

    def store_u64(self, index: int, value: int, offset: int = 0) -> None:
        self._words[index, offset] = value

    def add_u32(self, index: int, value: int = 1, offset: int = 0) -> int:
        self._words[index, offset] = (self.load_u32(index, offset) + value) % (1 << 32)
        return self._words[index, offset]
