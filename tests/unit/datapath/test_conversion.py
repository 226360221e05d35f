"""Conversion of layouts: fields that keep their meaning, that are dropped, and that don't fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.datapath.conversion import DoesNotFit, conversion, fields_of, is_same
from cilia.datapath.layout import Array, Integer, Struct, Type
from tests.unit.datapath.layouts import BE16, BE32, S16, S32, U8, U16, U32, struct


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


widths = st.sampled_from([8, 16, 32, 64])


@st.composite
def layouts(draw: st.DrawFn) -> Struct:
    """Draw a struct of up to six fields of any width, sign and order, with gaps between them."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True))
    members, offset = [], 0
    for name in names:
        size = draw(widths) // 8
        kind = draw(st.sampled_from(["__u", "__s", "__be"]))
        offset += draw(st.integers(0, 3))
        integer = Integer(f"{kind}{8 * size}", size, is_signed=kind == "__s")
        members.append((name, integer, 8 * offset))
        offset += size
    return struct(offset + draw(st.integers(0, 3)), *members)


@given(layouts(), layouts(), st.data())
def test_every_common_field_keeps_its_value_or_is_refused_by_name(
    old: Struct, new: Struct, data: st.DataObject
) -> None:
    before = bytearray(old.size)
    for field in fields_of(old):
        field.put(before, data.draw(st.integers(0, 127)))
    after = conversion(old, new)(bytes(before))
    sources = {field.path: field.get(bytes(before)) for field in fields_of(old)}
    assert len(after) == new.size
    for field in fields_of(new):
        assert field.get(after) == sources.get(field.path, 0)


@given(layouts(), st.data())
def test_what_is_put_into_a_field_is_got_from_it_and_changes_no_other(kind: Struct, data: st.DataObject) -> None:
    fields = list(fields_of(kind))
    chosen = data.draw(st.sampled_from(fields))
    low, high = (
        (-(1 << chosen.width - 1), (1 << chosen.width - 1) - 1) if chosen.is_signed else (0, (1 << chosen.width) - 1)
    )
    value = data.draw(st.integers(low, high))
    out = bytearray(kind.size)
    chosen.put(out, value)
    assert {field.path: field.get(bytes(out)) for field in fields if field.get(bytes(out))} == (
        {chosen.path: value} if value else {}
    )


@pytest.mark.parametrize(
    ("kind", "value"), [(U8, 256), (U8, -1), (S16, 1 << 15), (S16, -(1 << 15) - 1), (BE16, 1 << 16)]
)
def test_a_value_beyond_a_field_is_refused_and_writes_nothing(kind: Integer, value: int) -> None:
    (field,) = fields_of(struct(4, ("x", kind, 0)))
    out = bytearray(4)
    with pytest.raises(DoesNotFit, match=f"x is {value}, which the new layout can't hold"):
        field.put(out, value)
    assert out == bytes(4)


def test_bitfields_share_bytes_without_touching_each_other() -> None:
    kind = struct(4, ("low", U32, 0, 3), ("mid", U32, 3, 10), ("high", U32, 13, 19))
    fields = {field.path: field for field in fields_of(kind)}
    out = bytearray(4)
    for name, value in (("low", 5), ("mid", 1023), ("high", 1)):
        fields[name].put(out, value)
    fields["mid"].put(out, 512)
    assert {name: field.get(bytes(out)) for name, field in fields.items()} == {"low": 5, "mid": 512, "high": 1}


def test_a_value_that_needs_the_elements_of_a_shorter_array_names_the_first_of_them() -> None:
    old, new = struct(4, ("a", Array(U8, 4), 0)), struct(2, ("a", Array(U8, 2), 0))
    assert conversion(old, new)(b"\1\2\0\0") == b"\1\2"
    with pytest.raises(DoesNotFit) as refused:
        conversion(old, new)(b"\1\2\0\3")
    assert (refused.value.field, refused.value.value) == ("a[3]", 3)
