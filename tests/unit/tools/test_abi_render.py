"""Sources of cilia/abi out of types, and what they do once imported."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi.kinds import MapKind
from cilia.datapath.errors import UnsupportedType
from cilia.datapath.layout import Array, Enum, Integer, Member, Struct, Type
from tests.unit.tools.test_abi_layout import ADDRESS, BE16, BE32, BOOL, PAIR, U8, U16, U32, U64
from tools.abi_render import render_defaults, render_enums, render_maps, render_offsets, render_structs
from tools.btf import MapDefinition, Variable

FLOW = Struct(
    "flow_key",
    24,
    (
        Member("source", ADDRESS, 0, 0),
        Member("ports", PAIR, 128, 0),
        Member("low", U16, 160, 4),
        Member("high", U16, 164, 12),
        Member("pad", U16, 176, 0),
    ),
)


def run(source: str) -> dict[str, Any]:
    """Return the names of a generated module."""
    names: dict[str, Any] = {"__name__": "generated"}
    exec(compile(source, "generated", "exec"), names)
    return names


def test_what_a_struct_contains_comes_before_it() -> None:
    source = render_structs([FLOW, PAIR])
    assert source.index("class PortPair") < source.index("class FlowKey")
    assert render_structs([PAIR, FLOW]) == source


def test_plain_bytes_get_no_class() -> None:
    assert "class" not in render_structs([ADDRESS])


def test_a_struct_packs_and_unpacks_itself() -> None:
    names = run(render_structs([FLOW, PAIR]))
    flow = names["FlowKey"](bytes(range(16)), names["PortPair"](80, 40000), 5, 0xABC)
    packed = flow.pack()
    assert packed == bytes(range(16)) + struct.pack(">HH", 80, 40000) + struct.pack("=H", 0xABC5) + bytes(2)
    assert names["FlowKey"].unpack(packed) == flow
    assert list(names["FlowKey"].unpack_each(packed * 3)) == [flow] * 3
    codec = names["FLOW_KEY"]
    assert (codec.name, codec.size, codec.unpack(codec.pack(flow))) == ("struct flow_key", 24, flow)


@pytest.mark.parametrize("change", [{"source": bytes(15)}, {"low": 16}, {"high": 1 << 12}, {"low": -1}])
def test_a_value_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    names = run(render_structs([FLOW, PAIR]))
    flow = names["FlowKey"](bytes(16), names["PortPair"](0, 0), 0, 0)
    with pytest.raises(OverflowError):
        flow._replace(**change).pack()


LARGEST = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}


@given(st.data(), st.lists(st.sampled_from([U8, U16, U32, U64, BE16, BE32, Integer("__be64", 8)]), min_size=1))
def test_every_value_comes_back_and_stands_in_its_byte_order(data: st.DataObject, kinds: list[Integer]) -> None:
    members, offset, expected = [], 0, b""
    values = [data.draw(st.integers(0, LARGEST[kind.size])) for kind in kinds]
    for number, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        members.append(Member(f"m{number}", kind, 8 * offset, 0))
        offset += kind.size
        expected += value.to_bytes(kind.size, "big" if kind.is_network_order else "little")
    drawn = run(render_structs([Struct("drawn", offset, tuple(members))]))["Drawn"]
    assert drawn(*values).pack() == expected
    assert drawn.unpack(expected) == tuple(values)


def test_enums_drop_the_words_that_they_share_with_their_members() -> None:
    kinds = [
        Enum("drop_reason", 4, (("DROP_POLICY", 133), ("DROP_REASON_TOTAL", 9))),
        Enum("policy_shape", 4, (("SHAPE_ANY", 0), ("OTHER", 1), ("SHAPE_4", 2))),
    ]
    names = run(render_enums(kinds))
    assert {each.name: each.value for each in names["DropReason"]} == {"POLICY": 133, "TOTAL": 9}
    assert [each.name for each in names["PolicyShape"]] == ["ANY", "OTHER", "SHAPE_4"]


def definition(name: str, kind: MapKind, key: Type | None, value: Type | None, flags: int = 0) -> MapDefinition:
    return MapDefinition(name, kind, 64, flags, key, value)


def test_maps_are_sorted_and_carry_their_types() -> None:
    definitions = [
        definition("cilia_words", MapKind.ARRAY, U32, U64),
        definition("cilia_flows", MapKind.LRU_HASH, FLOW, ADDRESS, 1),
        definition("cilia_events", MapKind.RINGBUF, None, None),
    ]
    source = render_maps(definitions)
    lines = [line for line in source.splitlines() if "Final =" in line]
    assert lines == [
        'EVENTS: Final = RingLayout("cilia_events", 64)',
        'FLOWS: Final = MapLayout("cilia_flows", MapKind.LRU_HASH, structs.FLOW_KEY, codec.raw(16), 64, 0x1)',
        'WORDS: Final = MapLayout("cilia_words", MapKind.ARRAY, codec.U32, codec.U64, 64)',
    ]
    assert "from cilia.abi.codec import MapLayout, RingLayout" in source


@pytest.mark.parametrize("kind", [BE32, Integer("__s32", 4, is_signed=True), Array(U16, 2)])
def test_a_type_that_nobody_could_read_by_itself_is_refused(kind: Type) -> None:
    with pytest.raises(UnsupportedType, match="put it into a struct"):
        render_maps([definition("cilia_bad", MapKind.HASH, kind, U32)])


def test_offsets_leave_out_padding_and_bitfields() -> None:
    names = run(render_offsets([FLOW, ADDRESS]))
    assert {each.name: each.value for each in names["FlowKeyOffset"]} == {"SOURCE": 0, "PORTS": 16}
    assert "In6AddrOffset" not in names


def test_defaults_are_values_of_their_types() -> None:
    variables = [
        Variable("mac", Array(U8, 3), b"\x02\x63\x69"),
        Variable("is_native", BOOL, b"\1"),
        Variable("port", U16, (8472).to_bytes(2, "little")),
        Variable("wire_port", BE16, (8472).to_bytes(2, "big")),
        Variable("below", Integer("__s16", 2, is_signed=True), b"\xff\xff"),
        Variable("range", Array(U16, 2), (61000).to_bytes(2, "little") + b"\xff\xff"),
    ]
    names = run(render_defaults(variables))
    assert names["MAC"] == b"\x02ci"
    assert names["IS_NATIVE"] is True
    assert (names["PORT"], names["WIRE_PORT"], names["BELOW"]) == (8472, 8472, -1)
    assert names["RANGE"] == (61000, 65535)


def test_configuration_that_is_a_struct_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedType, match="struct port_pair ports"):
        render_defaults([Variable("ports", PAIR, bytes(4))])
