"""C types as they can stand in a map or an event: integers, enums, arrays and structs."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Enum:
    """``enum name``."""

    name: str
    size: int
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer; ``name`` is its outermost typedef."""

    name: str
    size: int
    is_signed: bool = False
    is_bool: bool = False
    enum: Enum | None = None

    @property
    def is_network_order(self) -> bool:
        return self.name.startswith("__be")


@dataclass(frozen=True, slots=True)
class Array:
    """``element[length]``."""

    element: "Type"
    length: int

    @property
    def size(self) -> int:
        return self.element.size * self.length


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct; ``bit_width`` is 0 unless it is a bitfield."""

    name: str
    type: "Type"
    bit_offset: int
    bit_width: int


@dataclass(frozen=True, slots=True)
class Struct:
    """``struct name``."""

    name: str
    size: int
    members: tuple[Member, ...]


Type: TypeAlias = Integer | Array | Struct
