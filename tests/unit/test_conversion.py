"""One layout turned into another: what keeps its meaning, what is dropped, what has no place."""

import pytest

from cilia.datapath.conversion import DoesNotFit, conversion, fields_of, is_same
from cilia.datapath.layout import Array, Integer, Member, Struct, Type

U8, U16, U32, U64 = (Integer(f"__u{8 * size}", size) for size in (1, 2, 4, 8))
S16, S32 = Integer("__s16", 2, is_signed=True), Integer("__s32", 4, is_signed=True)
BE16, BE32 = Integer("__be16", 2), Integer("__be32", 4)


def struct(size: int, *members: tuple[str, Type, int] | tuple[str, Type, int, int]) -> Struct:
    """Members as (name, type, offset in bits, width of a bitfield)."""
    return Struct("some", size, tuple(Member(*member[:3], (*member, 0)[3]) for member in members))


def test_a_field_that_moved_is_found_by_its_name() -> None:
    old = struct(8, ("a", U32, 0), ("b", U32, 32))
    new = struct(12, ("b", U32, 0), ("fresh", U32, 32), ("a", U32, 64))
    assert conversion(old, new)(b"aaaabbbb") == b"bbbb\0\0\0\0aaaa"


def test_a_field_that_is_gone_is_dropped_whatever_it_holds() -> None:
    old = struct(8, ("a", U32, 0), ("b", U32, 32))
    assert conversion(old, struct(4, ("b", U32, 0)))(b"aaaabbbb") == b"bbbb"


def test_equal_layouts_are_copied_whole_with_their_padding() -> None:
    kind = struct(8, ("a", U32, 0), ("b", U8, 32))
    assert conversion(kind, kind).is_identity
    assert conversion(kind, kind)(b"aaaab...") == b"aaaab..."


def test_the_same_size_with_other_names_is_not_the_same() -> None:
    assert not is_same(struct(4, ("a", U16, 0), ("b", U16, 16)), struct(4, ("b", U16, 0), ("a", U16, 16)))
    assert is_same(struct(4, ("a", U32, 0)), struct(4, ("a", Integer("unsigned int", 4), 0)))


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        (U16, U32, b"\x34\x12", b"\x34\x12\0\0"),
        (U32, U16, b"\x34\x12\0\0", b"\x34\x12"),
        (BE16, U16, b"\x12\x34", b"\x34\x12"),
        (BE16, BE32, b"\x12\x34", b"\0\0\x12\x34"),
        (S16, S32, b"\xff\xff", b"\xff\xff\xff\xff"),
    ],
)
def test_an_integer_keeps_its_value(old: Type, new: Type, before: bytes, after: bytes) -> None:
    assert conversion(struct(old.size, ("n", old, 0)), struct(new.size, ("n", new, 0)))(before) == after


@pytest.mark.parametrize(("old", "new", "data"), [(U32, U16, b"\0\0\1\0"), (S16, U32, b"\xff\xff")])
def test_a_value_that_has_no_place_is_named(old: Type, new: Type, data: bytes) -> None:
    with pytest.raises(DoesNotFit, match="n is "):
        conversion(struct(old.size, ("n", old, 0)), struct(new.size, ("n", new, 0)))(data)


def test_bitfields_keep_their_values() -> None:
    old = struct(4, ("low", U32, 0, 3), ("high", U32, 3, 18))
    new = struct(4, ("flag", U32, 0, 1), ("low", U32, 1, 3), ("high", U32, 12, 20))
    word = int.from_bytes(conversion(old, new)((5 | 0x2FFFF << 3).to_bytes(4, "little")), "little")
    assert (word & 1, word >> 1 & 7, word >> 12) == (0, 5, 0x2FFFF)


def test_arrays_of_structs_are_matched_by_index_and_grow_with_zeros() -> None:
    side = struct(4, ("a", U16, 0), ("gone", U16, 16))
    wider = struct(4, ("a", U32, 0))
    old, new = struct(8, ("side", Array(side, 2), 0)), struct(12, ("side", Array(wider, 3), 0))
    assert conversion(old, new)(b"\1\0xx\2\0xx") == b"\1\0\0\0\2\0\0\0\0\0\0\0"


def test_an_array_that_shrinks_must_be_zero_beyond_its_end() -> None:
    old, new = struct(4, ("n", Array(U8, 4), 0)), struct(4, ("n", Array(U8, 2), 0))
    assert conversion(old, new)(b"\1\2\0\0") == b"\1\2\0\0"
    with pytest.raises(DoesNotFit, match=r"n\[3\] is 7"):
        conversion(old, new)(b"\1\2\0\7")


def test_the_fields_of_a_type_are_named_by_their_path() -> None:
    kind = struct(6, ("side", Array(struct(2, ("port", BE16, 0)), 2), 0), ("x", U16, 32))
    assert [field.path for field in fields_of(kind)] == ["side[0].port", "side[1].port", "x"]
