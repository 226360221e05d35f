"""Codecs of values to and from the bytes of a map or an event.

Written by hand; the layouts are generated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, Generic, TypeAlias, TypeVar

from cilia.abi.kinds import MapKind

Buffer: TypeAlias = bytes | bytearray | memoryview

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """Pack and unpack one C type.

    Attributes:
        name: The C type, such as ``struct ct_key``.
        size: ``sizeof``, in bytes.
        pack: Gives exactly ``size`` bytes, padding zero. Raises struct.error or OverflowError where
            a field's value doesn't fit.
        unpack: Takes exactly ``size`` bytes.
    """

    name: str
    size: int
    pack: Callable[[T], bytes]
    unpack: Callable[[Buffer], T]


def integer(name: str, form: str) -> Codec[int]:
    """Give the codec of an integer type in host byte order, by its letter in :mod:`struct`."""
    layout = Struct("=" + form)

    def unpack(data: Buffer) -> int:
        (value,) = layout.unpack(data)
        return int(value)

    return Codec(name, layout.size, layout.pack, unpack)


U8: Final = integer("__u8", "B")
U16: Final = integer("__u16", "H")
U32: Final = integer("__u32", "I")
U64: Final = integer("__u64", "Q")


def exact(value: bytes, size: int) -> bytes:
    """Return ``value``, or raise OverflowError unless it has ``size`` bytes; struct would cut or
    pad it.
    """
    if len(value) != size:
        raise OverflowError(f"{len(value)} bytes where {size} are wanted")
    return value


def fit(value: int, bits: int) -> int:
    """Return ``value``, or raise OverflowError if a bitfield of ``bits`` can't hold it."""
    if value >> bits:
        raise OverflowError(f"{value} in {bits} bits")
    return value


def raw(size: int) -> Codec[bytes]:
    """Give the codec of ``size`` bytes without a meaning of their own."""

    return Codec(f"__u8[{size}]", size, lambda value: exact(value, size), bytes)


@dataclass(frozen=True, slots=True)
class MapLayout(Generic[K, V]):
    """Describe a map as bpf/maps/*.h defines it.

    Attributes:
        name: As in C; also the name of its pin.
        max_entries: What the object asks for; a loader may have set another number.
    """

    name: str
    kind: MapKind
    key: Codec[K]
    value: Codec[V]
    max_entries: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class RingLayout:
    """Describe a ring buffer.

    Attributes:
        max_entries: Its size in bytes.
    """

    name: str
    max_entries: int
