"""Conversion of values from one layout of a C type to another, field by field and by name.

A field that only the new layout has is zero, one that only the old one had is dropped. Integers may
change their width, their sign and their byte order as long as their value fits; arrays are matched
by index, and elements that the new one lacks must be zero.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cilia.datapath.errors import DatapathError
from cilia.datapath.layout import Array, Integer, Member, Struct, Type


class DoesNotFit(DatapathError):
    """A value doesn't fit into the new layout."""

    def __init__(self, field: str, value: int) -> None:
        super().__init__(f"{field or 'the value'} is {value}, which the new layout can't hold")
        self.field = field
        self.value = value


class Field(NamedTuple):
    """An integer in a type: its path, offset and encoding; ``width`` in bits."""

    path: str
    """Names and indexes, such as ``side[1].packets``."""
    bit_offset: int
    width: int
    is_signed: bool
    is_network_order: bool

    def get(self, data: bytes) -> int:
        """Read it; little-endian hosts put the first bitfield into the lowest bits."""
        first, last = self.bit_offset // 8, (self.bit_offset + self.width + 7) // 8
        if self.is_network_order:
            return int.from_bytes(data[first:last], "big", signed=self.is_signed)
        value = int.from_bytes(data[first:last], sys.byteorder) >> self.bit_offset % 8 & (1 << self.width) - 1
        return value - (1 << self.width) if self.is_signed and value >> self.width - 1 else value

    def put(self, data: bytearray, value: int) -> None:
        """Write it over zeros, or over what was there; raises DoesNotFit."""
        low, high = (-(1 << self.width - 1), 1 << self.width - 1) if self.is_signed else (0, 1 << self.width)
        if not low <= value < high:
            raise DoesNotFit(self.path, value)
        first, last = self.bit_offset // 8, (self.bit_offset + self.width + 7) // 8
        if self.is_network_order:
            data[first:last] = value.to_bytes(last - first, "big", signed=self.is_signed)
            return
        shift, mask = self.bit_offset % 8, (1 << self.width) - 1
        word = int.from_bytes(data[first:last], sys.byteorder) & ~(mask << shift)
        data[first:last] = (word | (value & mask) << shift).to_bytes(last - first, sys.byteorder)


def fields_of(kind: Type, path: str = "", bit_offset: int = 0, bit_width: int = 0) -> Iterator[Field]:
    """Give every integer of a type, in order; padding isn't among them."""
    match kind:
        case Integer():
            yield Field(path, bit_offset, bit_width or 8 * kind.size, kind.is_signed, kind.is_network_order)
        case Array(element=element, length=length):
            for index in range(length):
                yield from fields_of(element, f"{path}[{index}]", bit_offset + 8 * index * element.size)
        case Struct(members=members):
            for member in members:
                name = f"{path}.{member.name}" if path else member.name
                yield from fields_of(member.type, name, bit_offset + member.bit_offset, member.bit_width)


def is_same(old: Type, new: Type) -> bool:
    """Tell whether two types call the same bytes by the same names; names of types don't matter."""
    match old, new:
        case Integer(), Integer():
            return (old.size, old.is_signed, old.is_network_order) == (new.size, new.is_signed, new.is_network_order)
        case Array(), Array():
            return old.length == new.length and is_same(old.element, new.element)
        case Struct(), Struct():
            return (
                old.size == new.size
                and len(old.members) == len(new.members)
                and all(map(_is_same_member, old.members, new.members))
            )
    return False


def _is_same_member(old: Member, new: Member) -> bool:
    return (old.name, old.bit_offset, old.bit_width) == (new.name, new.bit_offset, new.bit_width) and is_same(
        old.type, new.type
    )


@dataclass(frozen=True, slots=True)
class Conversion:
    """Recipe that turns values of one type into another's; runs of bytes are copied at once."""

    old_size: int
    new_size: int
    runs: tuple[tuple[int, int, int], ...]
    """Offset in the old, offset in the new, and length of what is copied, in bytes."""
    reencoded: tuple[tuple[Field, Field], ...]
    truncated: tuple[Field, ...]
    """Fields of elements that arrays have no more; they must be zero."""

    @property
    def is_identity(self) -> bool:
        """Tell whether nothing changes."""
        return self.old_size == self.new_size and self.runs == ((0, 0, self.new_size),)

    def __call__(self, data: bytes) -> bytes:
        """Convert one value; raises DoesNotFit."""
        out = bytearray(self.new_size)
        for start, to, length in self.runs:
            out[to : to + length] = data[start : start + length]
        for source, target in self.reencoded:
            target.put(out, source.get(data))
        for gone in self.truncated:
            if gone.get(data):
                raise DoesNotFit(gone.path, gone.get(data))
        return bytes(out)


def conversion(old: Type, new: Type) -> Conversion:
    """Work out how values of type ``old`` become values of type ``new``."""
    if is_same(old, new):
        return Conversion(old.size, new.size, ((0, 0, new.size),), (), ())
    sources = {field.path: field for field in fields_of(old)}
    targets = {field.path: field for field in fields_of(new)}
    runs: list[tuple[int, int, int]] = []
    reencoded = []
    for path, target in targets.items():
        source = sources.get(path)
        if source is None:
            continue
        if not _is_plain_copy(source, target):
            reencoded.append((source, target))
            continue
        start, to, length = source.bit_offset // 8, target.bit_offset // 8, target.width // 8
        if runs and runs[-1][0] + runs[-1][2] == start and runs[-1][1] + runs[-1][2] == to:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + length)
        else:
            runs.append((start, to, length))
    elements = {_element_of(path) for path in targets}
    arrays = {_array_of(path) for path in targets} - {""}
    truncated = tuple(
        field for path, field in sources.items() if _element_of(path) not in elements and _array_of(path) in arrays
    )
    return Conversion(old.size, new.size, tuple(runs), tuple(reencoded), truncated)


def _is_plain_copy(source: Field, target: Field) -> bool:
    aligned = not (source.bit_offset % 8 or target.bit_offset % 8 or target.width % 8)
    return aligned and source[2:] == target[2:]


def _element_of(path: str) -> str:
    """Return the path of the innermost array element that a field is in; empty for none."""
    return path[: path.rfind("]") + 1]


def _array_of(path: str) -> str:
    """Return the path of the innermost array that a field is in; empty for none."""
    return path.rpartition("[")[0]
