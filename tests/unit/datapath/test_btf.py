"""BTF read from its raw form, written by hand as Documentation/bpf/btf.rst has it."""

import struct
from collections.abc import Sequence

import pytest

from cilia.datapath.btf import Btf, Kind
from cilia.datapath.errors import UnsupportedType
from cilia.datapath.layout import Array, Enum, Integer, Member, Struct

SIGNED, CHAR, BOOL = 1, 2, 4


class Writer:
    """Raw BTF as a compiler writes it: types in a row, names in a table."""

    def __init__(self) -> None:
        self._types = b""
        self._text = b"\0"
        self._count = 0

    def add(self, kind: int, name: str, size: int, *rest: int, members: int = 0, flag: bool = False) -> int:
        """Append a type; return its number."""
        info = members | kind << 24 | int(flag) << 31
        words = (self.name(name), info, size, *rest)
        self._types += b"".join(struct.pack("=I", word & 0xFFFF_FFFF) for word in words)
        self._count += 1
        return self._count

    def name(self, text: str) -> int:
        """Return the offset of a name in the table."""
        if not text:
            return 0
        offset = len(self._text)
        self._text += text.encode() + b"\0"
        return offset

    def integer(self, name: str, size: int, encoding: int = 0) -> int:
        return self.add(Kind.INT, name, size, encoding << 24 | 8 * size)

    def struct(self, name: str, size: int, members: Sequence[tuple[str, int, int]], *, flag: bool = False) -> int:
        words = [word for text, kind, offset in members for word in (self.name(text), kind, offset)]
        return self.add(Kind.STRUCT, name, size, *words, members=len(members), flag=flag)

    def enum(self, name: str, values: Sequence[tuple[str, int]], *, flag: bool = False) -> int:
        words = [word for text, value in values for word in (self.name(text), value)]
        return self.add(Kind.ENUM, name, 4, *words, members=len(values), flag=flag)

    def read(self) -> Btf:
        lengths = (0, len(self._types), len(self._types), len(self._text))
        return Btf(struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, *lengths) + self._types + self._text)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (0, Integer("x", 4)),
        (SIGNED, Integer("x", 4, is_signed=True)),
        (CHAR, Integer("x", 4)),
        (BOOL, Integer("x", 4, is_bool=True)),
    ],
)
def test_an_integer_is_read_with_its_encoding(encoding: int, expected: Integer) -> None:
    writer = Writer()
    number = writer.integer("x", 4, encoding)
    assert writer.read().type(number) == expected


def test_the_outermost_typedef_names_an_integer_and_tells_its_byte_order() -> None:
    writer = Writer()
    inner = writer.add(Kind.TYPEDEF, "__u16", writer.integer("unsigned short", 2))
    outer = writer.add(Kind.TYPEDEF, "__be16", inner)
    kind = writer.read().type(outer)
    assert kind == Integer("__be16", 2)
    assert isinstance(kind, Integer)
    assert kind.is_network_order


@pytest.mark.parametrize("qualifier", [Kind.CONST, Kind.VOLATILE])
def test_qualifiers_are_passed_over(qualifier: Kind) -> None:
    writer = Writer()
    number = writer.add(qualifier, "", writer.integer("int", 4, SIGNED))
    assert writer.read().type(number) == Integer("int", 4, is_signed=True)


def test_a_struct_has_its_members_in_order_with_offsets_in_bits() -> None:
    writer = Writer()
    byte, word = writer.integer("u8", 1), writer.integer("u32", 4)
    array = writer.add(Kind.ARRAY, "", 0, byte, word, 6)
    number = writer.struct("mac", 12, [("id", word, 0), ("mac", array, 32)])
    assert writer.read().type(number) == Struct(
        "mac",
        12,
        (Member("id", Integer("u32", 4), 0, 0), Member("mac", Array(Integer("u8", 1), 6), 32, 0)),
    )


def test_a_typedef_of_a_struct_is_the_struct() -> None:
    writer = Writer()
    number = writer.add(Kind.TYPEDEF, "pair_t", writer.struct("pair", 4, [("a", writer.integer("u32", 4), 0)]))
    kind = writer.read().type(number)
    assert isinstance(kind, Struct)
    assert kind.name == "pair"


def test_bitfields_have_a_width_and_plain_members_beside_them_none() -> None:
    writer = Writer()
    word = writer.integer("u32", 4)
    number = writer.struct(
        "version", 8, [("low", word, 3 << 24), ("rest", word, 29 << 24 | 3), ("next", word, 32)], flag=True
    )
    kind = writer.read().type(number)
    assert isinstance(kind, Struct)
    assert [(one.name, one.bit_offset, one.bit_width) for one in kind.members] == [
        ("low", 0, 3),
        ("rest", 3, 29),
        ("next", 32, 0),
    ]


def test_values_of_an_enum_are_unsigned_unless_it_says_otherwise() -> None:
    writer = Writer()
    plain, signed = writer.enum("reason", [("ALL", -1), ("ONE", 1)]), writer.enum("errno", [("BAD", -1)], flag=True)
    btf = writer.read()
    assert btf.enum(btf.records[plain]) == Enum("reason", 4, (("ALL", 0xFFFF_FFFF), ("ONE", 1)))
    assert btf.enum(btf.records[signed]) == Enum("errno", 4, (("BAD", -1),))
    assert btf.type(signed) == Integer("enum errno", 4, True, False, btf.enum(btf.records[signed]))


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.POINTER, "POINTER"), (Kind.FLOAT, "FLOAT double"), (Kind.FORWARD, "FORWARD")]
)
def test_types_that_cannot_stand_in_a_map_are_refused_by_name(kind: Kind, name: str) -> None:
    writer = Writer()
    number = writer.add(kind, name.partition(" ")[2], 8)
    with pytest.raises(UnsupportedType, match=name):
        writer.read().type(number)


def test_types_are_numbered_from_one_past_those_that_carry_more_data() -> None:
    writer = Writer()
    kinds = [
        writer.integer("int", 4),
        writer.add(Kind.VARIABLE, "flag", 1, 1),
        writer.add(Kind.SECTION, ".maps", 8, 2, 0, 4, 2, 4, 4, members=2),
        writer.add(Kind.PROTOTYPE, "", 1, 0, 1, members=1),
        writer.add(Kind.DECLARATION_TAG, "user", 1, -1),
        writer.add(Kind.ENUM64, "wide", 8, 0, 1, 2, members=1),
        writer.integer("last", 8),
    ]
    btf = writer.read()
    assert kinds == [*range(1, 8)]
    assert [record.kind for record in btf.records.values()][1:6] == [
        Kind.VARIABLE,
        Kind.SECTION,
        Kind.PROTOTYPE,
        Kind.DECLARATION_TAG,
        Kind.ENUM64,
    ]
    assert btf.records[3].rest == ((2, 0, 4), (2, 4, 4))
    assert btf.type(7) == Integer("last", 8)


def test_a_kind_that_came_later_is_refused_with_its_number() -> None:
    writer = Writer()
    writer.add(25, "", 0)
    with pytest.raises(UnsupportedType, match="BTF kind 25"):
        writer.read()


def test_other_bytes_are_not_taken_for_btf() -> None:
    with pytest.raises(UnsupportedType, match="BTF begins with 0x0, not 0xeb9f"):
        Btf(bytes(24))
