"""Layouts of the maps in fixture.bpf.c, as the generator would write them."""

from struct import Struct
from typing import Final, NamedTuple, Self

from cilia.abi.codec import U32, U64, Buffer, Codec, MapLayout
from cilia.abi.kinds import MapKind

_PAIR = Struct("=QQ")
_TRIE_KEY = Struct("=I4s")


class Pair(NamedTuple):
    packets: int
    bytes_: int

    def pack(self) -> bytes:
        return _PAIR.pack(*self)

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls(*_PAIR.unpack(data))


class TrieKey(NamedTuple):
    prefixlen: int
    byte: bytes

    def pack(self) -> bytes:
        return _TRIE_KEY.pack(*self)

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls(*_TRIE_KEY.unpack(data))


PAIR: Final = Codec("struct pair", 16, Pair.pack, Pair.unpack)
TRIE_KEY: Final = Codec("struct trie_key", 8, TrieKey.pack, TrieKey.unpack)

HASH: Final = MapLayout("test_hash", MapKind.HASH, U32, U32, 100)
TRIE: Final = MapLayout("test_trie", MapKind.LPM_TRIE, TRIE_KEY, U32, 100)
WORDS: Final = MapLayout("test_words", MapKind.ARRAY, U32, U64, 16)
COUNTS: Final = MapLayout("test_counts", MapKind.PERCPU_ARRAY, U32, PAIR, 4)
