"""From C structs to formats and expressions: names, annotations, padding, bitfields."""

import struct as formats

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.datapath.layout import Array, Enum, Integer, Member, Struct, Type
from tools.abi_layout import (
    Flat,
    UnsupportedLayout,
    annotation,
    c_name,
    class_name,
    field_name,
    flatten,
    flatten_members,
    is_bytes,
    is_padding,
)

U8, U16, U32, U64 = (Integer(f"__u{8 * size}", size) for size in (1, 2, 4, 8))
BE16, BE32, BE64 = (Integer(f"__be{8 * size}", size) for size in (2, 4, 8))
FRUIT = Integer("enum fruit", 4, enum=Enum("fruit", 4, (("FRUIT_APPLE", 1),)))
BOOL = Integer("bool", 1, is_bool=True)
ADDRESS = Struct("in6_addr", 16, (Member("byte", Array(U8, 16), 0, 0),))
PAIR = Struct("port_pair", 4, (Member("source", BE16, 0, 0), Member("target", BE16, 16, 0)))


def laid_out(kind: Type) -> tuple[str, list[str], str]:
    """Return the format, the values to pack and the expression of what is unpacked."""
    flat = Flat()
    built = flatten(kind, 0, "x", flat)
    return flat.format, flat.values, built


@pytest.mark.parametrize(
    ("kind", "form", "value", "built"),
    [
        (U8, "=B", "x", "v[0]"),
        (U64, "=Q", "x", "v[0]"),
        (Integer("__s16", 2, is_signed=True), "=h", "x", "v[0]"),
        (BOOL, "=?", "x", "v[0]"),
        (BE16, "=H", "htons(x)", "ntohs(v[0])"),
        (BE32, "=I", "htonl(x)", "ntohl(v[0])"),
        (BE64, "=8s", 'x.to_bytes(8, "big")', 'int.from_bytes(v[0], "big")'),
        (FRUIT, "=I", "x", "Fruit(v[0])"),
        (Array(U8, 6), "=6s", "exact(x, 6)", "v[0]"),
        (ADDRESS, "=16s", "exact(x, 16)", "v[0]"),
    ],
)
def test_a_plain_value_is_one_letter(kind: Type, form: str, value: str, built: str) -> None:
    assert laid_out(kind) == (form, [value], built)


def test_arrays_and_structs_are_flattened_in_order() -> None:
    assert laid_out(Array(U16, 2)) == ("=HH", ["x[0]", "x[1]"], "(v[0], v[1])")
    assert laid_out(Array(U16, 1)) == ("=H", ["x[0]"], "(v[0],)")
    assert laid_out(PAIR) == ("=HH", ["htons(x.source)", "htons(x.target)"], "PortPair(ntohs(v[0]), ntohs(v[1]))")
    form, values, built = laid_out(Array(PAIR, 2))
    assert (form, values[2]) == ("=HHHH", "htons(x[1].source)")
    assert built == "(PortPair(ntohs(v[0]), ntohs(v[1])), PortPair(ntohs(v[2]), ntohs(v[3])))"


def test_gaps_and_named_padding_are_skipped() -> None:
    kind = Struct("gaps", 16, (Member("a", U8, 0, 0), Member("pad", U8, 8, 0), Member("b", U32, 32, 0)))
    form, values, built = laid_out(kind)
    assert (form, values, built) == ("=B3xI8x", ["x.a", "x.b"], "Gaps(v[0], v[1])")
    assert formats.calcsize(form) == kind.size


def test_neighbouring_bitfields_are_one_integer_with_the_first_lowest() -> None:
    members = (Member("low", U32, 0, 3), Member("unused", U32, 3, 5), Member("high", U32, 8, 24))
    form, values, built = laid_out(Struct("bits", 4, members))
    assert (form, values) == ("=I", ["fit(x.low, 3) | fit(x.high, 24) << 8"])
    assert built == "Bits(v[0] & 0x7, v[0] >> 8 & 0xffffff)"


def test_bitfields_are_cut_where_the_unit_of_their_type_ends() -> None:
    members = (Member("one", U8, 0, 8), Member("two", U8, 8, 4))
    form, values, _ = laid_out(Struct("bits", 2, members))
    assert (form, values) == ("=BB", ["fit(x.one, 8)", "fit(x.two, 4)"])


def test_bitfields_that_are_padding_alone_are_packed_as_zero() -> None:
    form, values, built = laid_out(Struct("bits", 1, (Member("unused", U8, 0, 8),)))
    assert (form, values, built) == ("=B", ["0"], "Bits()")


def test_members_that_overlap_are_refused_with_their_byte() -> None:
    kind = Struct("union_like", 4, (Member("a", U32, 0, 0), Member("b", U16, 16, 0)))
    with pytest.raises(UnsupportedLayout, match="overlap at byte 2"):
        laid_out(kind)


@pytest.mark.parametrize(("name", "expected"), [("ct_key", "CtKey"), ("event", "Event"), ("ct4_key", "Ct4Key")])
def test_a_struct_becomes_a_class_by_its_words(name: str, expected: str) -> None:
    assert class_name(name) == expected


@pytest.mark.parametrize("name", ["from", "class", "count", "index", "of", "pack", "int"])
def test_a_name_that_python_uses_gets_an_underscore(name: str) -> None:
    assert field_name(name) == f"{name}_"
    assert field_name(f"{name}_x") == f"{name}_x"


def test_padding_is_told_by_its_name() -> None:
    assert [is_padding(Member(name, U8, 0, 0)) for name in ("pad", "pad2", "unused", "spade")] == [True] * 3 + [False]


def test_bytes_are_arrays_of_unsigned_bytes_and_structs_around_one() -> None:
    assert is_bytes(ADDRESS)
    assert is_bytes(Array(U8, 6))
    signed, booleans = Integer("__s8", 1, is_signed=True), Array(BOOL, 4)
    for kind in (U8, Array(U16, 2), Array(signed, 4), booleans, PAIR, Struct("empty", 0, ())):
        assert not is_bytes(kind)


@pytest.mark.parametrize(
    ("kind", "python", "c"),
    [
        (U32, "int", "__u32"),
        (BOOL, "bool", "bool"),
        (FRUIT, "Fruit", "enum fruit"),
        (Array(U8, 6), "bytes", "__u8[6]"),
        (Array(U16, 2), "tuple[int, int]", "__u16[2]"),
        (Array(U16, 5), "tuple[int, ...]", "__u16[5]"),
        (Array(PAIR, 1), "tuple[PortPair]", "struct port_pair[1]"),
        (ADDRESS, "bytes", "struct in6_addr"),
    ],
)
def test_a_type_is_annotated_in_python_and_named_in_c(kind: Type, python: str, c: str) -> None:
    assert (annotation(kind), c_name(kind)) == (python, c)


KINDS = st.recursive(
    st.sampled_from([U8, U16, U32, U64, BE16, BE32, BE64, BOOL]),
    lambda inner: st.builds(Array, inner, st.integers(1, 3)),
    max_leaves=3,
)


@given(st.lists(st.tuples(KINDS, st.integers(0, 3)), max_size=6), st.integers(0, 4))
def test_a_format_covers_its_struct_whatever_the_members_and_gaps(members: list[tuple[Type, int]], tail: int) -> None:
    offset, placed = 0, []
    for number, (kind, gap) in enumerate(members):
        placed.append(Member(f"m{number}", kind, 8 * (offset + gap), 0))
        offset += gap + kind.size
    kind = Struct("drawn", offset + tail, tuple(placed))
    flat = Flat()
    built = flatten_members(kind, 0, "self", flat)
    assert formats.calcsize(flat.format) == kind.size
    assert len(built) == len(members)
    assert len(formats.unpack(flat.format, bytes(kind.size))) == len(flat.values)
