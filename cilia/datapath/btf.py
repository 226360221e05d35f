"""BTF, the types that a compiler leaves in an object and the kernel keeps with a map, read from its
raw form.

The raw form is described in the kernel's Documentation/bpf/btf.rst; integers are in host order.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cilia.datapath.errors import UnsupportedType
from cilia.datapath.layout import Array, Enum, Integer, Member, Struct, Type

MAGIC: Final = 0xEB9F
HEADER: Final = struct.Struct("=HBBIIIII")
COMMON: Final = struct.Struct("=III")
IS_SIGNED, IS_BOOL = 1, 4


class Kind(IntEnum):
    """``BTF_KIND_*``."""

    INT = 1
    POINTER = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FORWARD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNCTION = 12
    PROTOTYPE = 13
    VARIABLE = 14
    SECTION = 15
    FLOAT = 16
    DECLARATION_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


FORMS: Final = {
    Kind.INT: "I",
    Kind.ARRAY: "III",
    Kind.VARIABLE: "I",
    Kind.DECLARATION_TAG: "i",
}
"""Format of the data behind the common part."""

MEMBER_FORMS: Final = {
    Kind.STRUCT: "III",
    Kind.UNION: "III",
    Kind.ENUM: "Ii",
    Kind.PROTOTYPE: "II",
    Kind.SECTION: "III",
    Kind.ENUM64: "III",
}
"""Format of the data behind the common part, for each member."""


@dataclass(frozen=True, slots=True)
class Record:
    """One type in the raw form.

    Attributes:
        size: In bytes, or the number of the type it refers to.
        kind_flag: Of a struct, that it has bitfields; of an enum, that it is signed (compilers
            before LLVM 15 don't say so).
        rest: What follows, one tuple a member.
    """

    kind: Kind
    name: str
    size: int
    kind_flag: bool
    rest: tuple[tuple[int, ...], ...]


class Btf:
    """The types of one object or map, by number."""

    def __init__(self, raw: bytes) -> None:
        """Read the raw form.

        Raises:
            UnsupportedType: It isn't BTF, or has a kind of type that came later.
        """
        magic, _, _, length, type_at, type_length, text_at, text_length = HEADER.unpack_from(raw)
        if magic != MAGIC:
            raise UnsupportedType(f"BTF begins with {magic:#x}, not {MAGIC:#x}")
        self._text = raw[length + text_at : length + text_at + text_length]
        types = raw[length + type_at : length + type_at + type_length]
        self.records: Mapping[int, Record] = dict(enumerate(self._read(types), 1))

    def text(self, offset: int) -> str:
        """Return the name at ``offset``; empty for what is anonymous."""
        return self._text[offset : self._text.index(b"\0", offset)].decode()

    def _read(self, types: bytes) -> Iterator[Record]:
        at = 0
        while at < len(types):
            name, info, size = COMMON.unpack_from(types, at)
            at += COMMON.size
            try:
                kind = Kind(info >> 24 & 0x1F)
            except ValueError as unknown:
                raise UnsupportedType(f"BTF kind {info >> 24 & 0x1F}") from unknown
            once, each = FORMS.get(kind), MEMBER_FORMS.get(kind)
            form = struct.Struct("=" + (once or each or ""))
            count = (info & 0xFFFF) if each else int(bool(once))
            rest = tuple(form.unpack_from(types, at + index * form.size) for index in range(count))
            at += count * form.size
            yield Record(kind, self.text(name), size, bool(info >> 31), rest)

    def type(self, number: int) -> Type:
        """Return a type by its number.

        Raises:
            UnsupportedType: A pointer, a union, a float.
        """
        one = self.records[number]
        match one.kind:
            case Kind.CONST | Kind.VOLATILE:
                return self.type(one.size)
            case Kind.TYPEDEF:
                inner = self.type(one.size)
                if not isinstance(inner, Integer):
                    return inner
                return Integer(one.name, inner.size, inner.is_signed, inner.is_bool, inner.enum)
            case Kind.INT:
                encoding = one.rest[0][0] >> 24 & 0xF
                return Integer(one.name, one.size, bool(encoding & IS_SIGNED), bool(encoding & IS_BOOL))
            case Kind.ENUM:
                enum = self.enum(one)
                return Integer(f"enum {enum.name}", enum.size, min(v for _, v in enum.values) < 0, False, enum)
            case Kind.ARRAY:
                element, _, length = one.rest[0]
                return Array(self.type(element), length)
            case Kind.STRUCT:
                return self.struct(one)
            case kind:
                raise UnsupportedType(f"{kind.name} {one.name}")

    def enum(self, one: Record) -> Enum:
        """Return an enum of its record."""
        mask = -1 if one.kind_flag else (1 << 8 * one.size) - 1
        return Enum(one.name, one.size, tuple((self.text(name), value & mask) for name, value in one.rest))

    def struct(self, one: Record) -> Struct:
        """Return a struct of its record."""
        members = []
        for name, number, offset in one.rest:
            bits = (offset & 0xFFFFFF, offset >> 24) if one.kind_flag else (offset, 0)
            members.append(Member(self.text(name), self.type(number), *bits))
        return Struct(one.name, one.size, tuple(members))
