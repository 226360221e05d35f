"""From a C struct to the source of a Python class: a format for :mod:`struct`, and what to pack and
unpack.

One format packs a struct with everything nested in it. Formats are in host order; network-order
fields are turned by htons and htonl, which cost less than a second format.
"""

import keyword
from dataclasses import dataclass, field
from itertools import groupby

from cilia.datapath.layout import Array, Integer, Member, Struct, Type

LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
TAKEN = frozenset({"count", "index", "of", "pack", "unpack", "unpack_each", "bool", "bytes", "int", "tuple"})
"""Members of the generated tuples, and types that their annotations name."""

PADDING = ("pad", "unused")


class UnsupportedLayout(Exception):
    """A struct that this generator has no words for."""


@dataclass(slots=True)
class Flat:
    """A struct without its nesting.

    Attributes:
        format: Of :mod:`struct`, growing.
        end: Bytes that the format covers so far.
        values: Expressions that give the values to pack, in order.
        imports: Functions that the expressions use.
    """

    format: str = "="
    end: int = 0
    values: list[str] = field(default_factory=list)

    def place(self, offset: int, letter: str, size: int, value: str) -> str:
        """Append a value at ``offset``; give the expression of the same value once unpacked."""
        self.skip_to(offset)
        self.format += letter
        self.end = offset + size
        self.values.append(value)
        return f"v[{len(self.values) - 1}]"

    def skip_to(self, offset: int) -> None:
        """Pad up to ``offset``; raises UnsupportedLayout if something lies there already."""
        if offset < self.end:
            raise UnsupportedLayout(f"overlap at byte {offset}")
        if offset > self.end:
            self.format += f"{offset - self.end}x"
            self.end = offset


def class_name(name: str) -> str:
    """``ct_key`` -> ``CtKey``."""
    return "".join(word.capitalize() for word in name.split("_"))


def field_name(name: str) -> str:
    """Give the C name, with an underscore behind it where Python has another use for it."""
    return f"{name}_" if keyword.iskeyword(name) or name in TAKEN else name


def is_padding(member: Member) -> bool:
    return member.name.startswith(PADDING)


def is_bytes(kind: Type) -> bool:
    """Tell whether a type is plain bytes in Python: an array of __u8, or a struct around nothing
    else.
    """
    match kind:
        case Array(element=Integer(size=1, is_signed=False, is_bool=False, enum=None)):
            return True
        case Struct(members=(Member(type=Array() as only),)):
            return is_bytes(only)
    return False


def annotation(kind: Type) -> str:
    """Give the Python type of a C type."""
    if is_bytes(kind):
        return "bytes"
    match kind:
        case Integer(is_bool=True):
            return "bool"
        case Integer(enum=enum):
            return class_name(enum.name) if enum else "int"
        case Array(element=element, length=length):
            inner = annotation(element)
            return f"tuple[{', '.join([inner] * length)}]" if length <= 4 else f"tuple[{inner}, ...]"
        case Struct(name=name):
            return class_name(name)


def c_name(kind: Type) -> str:
    """Give a C type as its source has it."""
    match kind:
        case Integer(name=name):
            return name
        case Array(element=element, length=length):
            return f"{c_name(element)}[{length}]"
        case Struct(name=name):
            return f"struct {name}"


def flatten(kind: Type, offset: int, access: str, flat: Flat) -> str:
    """Place a value of type ``kind`` that ``access`` gives at ``offset``.

    Returns:
        The expression that builds it from the tuple ``v`` of unpacked values.
    """
    if is_bytes(kind):
        return flat.place(offset, f"{kind.size}s", kind.size, f"exact({access}, {kind.size})")
    match kind:
        case Integer():
            return _flatten_integer(kind, offset, access, flat)
        case Array(element=element, length=length):
            parts = [flatten(element, offset + i * element.size, f"{access}[{i}]", flat) for i in range(length)]
            return f"({', '.join(parts)}{',' if length == 1 else ''})"
        case Struct():
            parts = flatten_members(kind, offset, access, flat)
            return f"{class_name(kind.name)}({', '.join(parts)})"


def flatten_members(struct: Struct, offset: int, access: str, flat: Flat) -> list[str]:
    """Place the members of a struct; give an expression each, without those that are padding."""
    expressions: list[str] = []
    for is_bitfield, run in groupby(struct.members, key=lambda member: member.bit_width > 0):
        if is_bitfield:
            expressions += _flatten_bitfields(list(run), offset, access, flat)
            continue
        for member in run:
            if not is_padding(member):
                at = offset + member.bit_offset // 8
                expressions.append(flatten(member.type, at, f"{access}.{field_name(member.name)}", flat))
    flat.skip_to(offset + struct.size)
    return expressions


def _flatten_integer(kind: Integer, offset: int, access: str, flat: Flat) -> str:
    letter = "?" if kind.is_bool else LETTERS[kind.size]
    if kind.is_signed:
        letter = letter.lower()
    if not kind.is_network_order:
        value = flat.place(offset, letter, kind.size, access)
        return f"{class_name(kind.enum.name)}({value})" if kind.enum else value
    match kind.size:
        case 2:
            return f"ntohs({flat.place(offset, 'H', 2, f'htons({access})')})"
        case 4:
            return f"ntohl({flat.place(offset, 'I', 4, f'htonl({access})')})"
        case _:
            value = flat.place(offset, f"{kind.size}s", kind.size, f'{access}.to_bytes({kind.size}, "big")')
            return f'int.from_bytes({value}, "big")'


def _flatten_bitfields(run: list[Member], offset: int, access: str, flat: Flat) -> list[str]:
    """Pack neighbouring bitfields as one integer, the first in the lowest bits (little-endian
    hosts).

    They are cut where the unit of their declared type ends, as compilers cut them.
    """
    expressions: list[str] = []
    for _, unit in groupby(run, key=lambda member: member.bit_offset // (8 * member.type.size)):
        members = list(unit)
        start = members[0].bit_offset // 8
        bits = members[-1].bit_offset + members[-1].bit_width - 8 * start
        size = next(size for size in LETTERS if 8 * size >= bits)
        named = [member for member in members if not is_padding(member)]
        shifts = [member.bit_offset - 8 * start for member in named]
        packed = " | ".join(
            f"fit({access}.{field_name(member.name)}, {member.bit_width})" + (f" << {shift}" if shift else "")
            for member, shift in zip(named, shifts, strict=True)
        )
        value = flat.place(offset + start, LETTERS[size], size, packed or "0")
        expressions += [
            f"{f'{value} >> {shift}' if shift else value} & {(1 << member.bit_width) - 1:#x}"
            for member, shift in zip(named, shifts, strict=True)
        ]
    return expressions
