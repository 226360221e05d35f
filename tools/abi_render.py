"""Python sources of cilia/abi, rendered from the types of an object."""

import sys
from collections.abc import Iterable

from cilia.abi.kinds import MapKind
from cilia.datapath.errors import UnsupportedType
from cilia.datapath.layout import Array, Enum, Integer, Struct, Type
from tools.abi_layout import (
    Flat,
    annotation,
    c_name,
    class_name,
    field_name,
    flatten_members,
    is_bytes,
    is_padding,
)
from tools.btf import MapDefinition, Variable

REMARK = "Generated from BTF by tools/abi.py (make abi); don't edit."


def render_enums(enums: Iterable[Enum]) -> str:
    """Give the source of enums.py."""
    parts = [f'"""Closed choices of the data plane. {REMARK}"""\n\nfrom enum import IntEnum\n']
    for enum in enums:
        members = "\n".join(f"    {_member_name(enum, name)} = {value}" for name, value in enum.values)
        parts.append(f'class {class_name(enum.name)}(IntEnum):\n    """``enum {enum.name}``."""\n\n{members}\n')
    return "\n\n".join(parts)


def _member_name(enum: Enum, name: str) -> str:
    """Drop the words that a member shares with its enum: SHAPE_ANY of policy_shape is ANY."""
    words = enum.name.upper().split("_")
    heads = [words[:length] for length in range(len(words), 0, -1)]
    for shared in [*heads, *(words[start:] for start in range(1, len(words)))]:
        rest = name.removeprefix("_".join(shared) + "_")
        if rest != name and rest.isidentifier():
            return rest
    return name


def render_structs(structs: Iterable[Struct]) -> str:
    """Give the source of structs.py."""
    ordered = _dependencies_first(structs)
    body = "\n\n".join(_render_struct(struct) for struct in ordered)
    enums = sorted({name for struct in ordered for name in _enum_names(struct)})
    turns = [name for name in ("htonl", "htons", "ntohl", "ntohs") if f"{name}(" in body]
    checks = [name for name in ("exact", "fit") if f"{name}(" in body]
    head = [
        f'"""Keys, values and events of the data plane.\n\n{REMARK}\n\n'
        "Integers are in host order, also where C keeps them in network order; ``unpack`` takes exactly\n"
        'one struct, ``unpack_each`` any number of them in a row.\n"""\n',
        "from collections.abc import Iterator",
        f"from socket import {', '.join(turns)}" if turns else "",
        "from struct import Struct",
        "from typing import Any, Final, NamedTuple, Self\n",
        f"from cilia.abi.codec import {', '.join(['Buffer', 'Codec', *checks])}",
        f"from cilia.abi.enums import {', '.join(enums)}" if enums else "",
    ]
    return "\n".join(line for line in head if line) + "\n\n" + body


def _render_struct(struct: Struct) -> str:
    name, constant = class_name(struct.name), struct.name.upper()
    flat = Flat()
    unpacked = flatten_members(struct, 0, "self", flat)
    fields = "\n".join(
        f"    {field_name(member.name)}: {annotation(member.type)}  # {c_name(member.type)}"
        + (f" : {member.bit_width}" if member.bit_width else "")
        for member in struct.members
        if not is_padding(member)
    )
    return f'''_{constant} = Struct("{flat.format}")


class {name}(NamedTuple):
    """``struct {struct.name}``, {struct.size} bytes."""

{fields}

    def pack(self) -> bytes:
        return _{constant}.pack({", ".join(flat.values)})

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls({", ".join(unpacked)})

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_{constant}.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _{constant}.iter_unpack(data))


{constant}: Final = Codec("struct {struct.name}", {struct.size}, {name}.pack, {name}.unpack)
'''


def _inner_structs(kind: Type) -> Iterable[Struct]:
    match kind:
        case Array(element=element):
            return _inner_structs(element)
        case Struct() if not is_bytes(kind):
            return [kind]
    return []


def _enum_names(struct: Struct) -> Iterable[str]:
    for member in struct.members:
        match member.type:
            case Integer(enum=Enum(name=name)) | Array(element=Integer(enum=Enum(name=name))):
                yield class_name(name)


def _dependencies_first(structs: Iterable[Struct]) -> list[Struct]:
    """Order by name, but after what a struct contains; plain bytes need no class."""
    ordered: list[Struct] = []

    def visit(struct: Struct) -> None:
        for member in struct.members:
            for inner in _inner_structs(member.type):
                visit(inner)
        if struct not in ordered:
            ordered.append(struct)

    for struct in sorted(structs, key=lambda one: one.name):
        if not is_bytes(struct):
            visit(struct)
    return ordered


def render_maps(maps: Iterable[MapDefinition]) -> str:
    """Give the source of maps.py."""
    lines = []
    for one in sorted(maps, key=lambda one: one.name):
        constant = one.name.removeprefix("cilia_").upper()
        if one.key is None or one.value is None:
            lines.append(f'{constant}: Final = RingLayout("{one.name}", {one.max_entries})')
            continue
        flags = f", {one.flags:#x}" if one.flags else ""
        key, value = _codec(one.key), _codec(one.value)
        kind = MapKind(one.kind).name
        lines.append(
            f'{constant}: Final = MapLayout("{one.name}", MapKind.{kind}, {key}, {value}, {one.max_entries}{flags})'
        )
    body = "\n".join(lines)
    words = [word for word in ("MapLayout", "RingLayout") if f"{word}(" in body]
    head = (
        f'"""Maps of the data plane; who writes and who reads them stands in bpf/maps.\n\n{REMARK}\n"""\n\n'
        "from typing import Final\n\nfrom cilia.abi import codec, structs\n"
        f"from cilia.abi.codec import {', '.join(words)}\nfrom cilia.abi.kinds import MapKind\n"
    )
    return f"{head}\n{body}\n"


def _codec(kind: Type) -> str:
    if is_bytes(kind):
        return f"codec.raw({kind.size})"
    match kind:
        case Struct(name=name):
            return f"structs.{name.upper()}"
        case Integer(is_network_order=False, is_signed=False, size=size):
            return f"codec.U{8 * size}"
    raise UnsupportedType(f"{c_name(kind)} by itself in a map; put it into a struct")


def render_offsets(structs: Iterable[Struct]) -> str:
    """Give the source of offsets.py."""
    parts = [
        f'"""Offsets of members in the structs of the data plane, in bytes.\n\n{REMARK}\n"""\n\nfrom enum import IntEnum\n'
    ]
    for struct in sorted(structs, key=lambda one: one.name):
        members = [member for member in struct.members if not is_padding(member) and not member.bit_width]
        if is_bytes(struct) or not members:
            continue
        lines = "\n".join(f"    {member.name.upper()} = {member.bit_offset // 8}" for member in members)
        name = class_name(struct.name)
        parts.append(f'class {name}Offset(IntEnum):\n    """Members of ``struct {struct.name}``."""\n\n{lines}\n')
    return "\n\n".join(parts)


def render_defaults(variables: Iterable[Variable]) -> str:
    """Give the source of defaults.py."""
    lines = [f"{one.name.upper()}: Final = {_default(one)}" for one in variables]
    head = f'"""Configuration of the data plane as long as nobody sets it (bpf/lib/config.h).\n\n{REMARK}\n"""\n'
    return f"{head}\nfrom typing import Final\n\n" + "\n".join(lines) + "\n"


def _default(variable: Variable) -> str:
    if is_bytes(variable.type):
        return f'bytes.fromhex("{variable.initial.hex()}")'
    match variable.type:
        case Integer(is_bool=True):
            return str(any(variable.initial))
        case Integer() as kind:
            return str(_integer(kind, variable.initial))
        case Array(element=Integer() as element, length=length):
            parts = (variable.initial[at * element.size :][: element.size] for at in range(length))
            return repr(tuple(_integer(element, part) for part in parts))
    raise UnsupportedType(f"{c_name(variable.type)} {variable.name} as configuration")


def _integer(kind: Integer, data: bytes) -> int:
    return int.from_bytes(data, "big" if kind.is_network_order else sys.byteorder, signed=kind.is_signed)
