"""BTF of a compiled object, as ``bpftool -j btf dump`` gives it, turned into C types that a layout can be made of.

Only what can stand in a map or an event: integers, enums, arrays and structs.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias


class UnsupportedType(Exception):
    """A type that can't stand in a map or an event, such as a pointer or a union."""


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


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """A map of the object; ring buffers have neither key nor value."""

    name: str
    kind: int
    max_entries: int
    flags: int
    key: Type | None
    value: Type | None


class Btf:
    """The types of one object."""

    def __init__(self, types: list[dict[str, Any]]) -> None:
        self._types: Mapping[int, dict[str, Any]] = {one["id"]: one for one in types}

    @classmethod
    def of(cls, file: Path) -> "Btf":
        """Read an object file."""
        dump = subprocess.run(
            ["bpftool", "-j", "btf", "dump", "file", str(file)], check=True, capture_output=True, text=True
        )
        return cls(json.loads(dump.stdout)["types"])

    def structs(self) -> Iterator[Struct]:
        """Give the named structs."""
        for number, one in self._types.items():
            if one["kind"] == "STRUCT" and one["name"] != "(anon)":
                yield self._struct(number)

    def enums(self) -> Iterator[Enum]:
        """Give the named enums."""
        for one in self._types.values():
            if one["kind"] == "ENUM" and one["name"] != "(anon)":
                yield self._enum(one)

    def maps(self) -> Iterator[MapDefinition]:
        """Give the maps, in the order of the source."""
        for section in self._types.values():
            if section["kind"] == "DATASEC" and section["name"] == ".maps":
                for place in section["vars"]:
                    variable = self._types[place["type_id"]]
                    yield self._map(variable["name"], self._types[variable["type_id"]])

    def type(self, number: int) -> Type:
        """Resolve a type by its id.

        Raises:
            UnsupportedType: A pointer, a union, a float.
        """
        one = self._types[number]
        match one["kind"]:
            case "CONST" | "VOLATILE":
                return self.type(one["type_id"])
            case "TYPEDEF":
                inner = self.type(one["type_id"])
                if not isinstance(inner, Integer):
                    return inner
                return Integer(one["name"], inner.size, inner.is_signed, inner.is_bool, inner.enum)
            case "INT":
                return Integer(one["name"], one["size"], one["encoding"] == "SIGNED", one["encoding"] == "BOOL")
            case "ENUM":
                enum = self._enum(one)
                return Integer(f"enum {enum.name}", enum.size, min(v for _, v in enum.values) < 0, False, enum)
            case "ARRAY":
                return Array(self.type(one["type_id"]), one["nr_elems"])
            case "STRUCT":
                return self._struct(number)
            case kind:
                raise UnsupportedType(f"{kind} {one['name']}")

    def _enum(self, one: dict[str, Any]) -> Enum:
        return Enum(one["name"], one["size"], tuple((value["name"], value["val"]) for value in one["values"]))

    def _struct(self, number: int) -> Struct:
        one = self._types[number]
        members = tuple(
            Member(member["name"], self.type(member["type_id"]), member["bits_offset"], member.get("bitfield_size", 0))
            for member in one["members"]
        )
        return Struct(one["name"], one["size"], members)

    def _map(self, name: str, definition: dict[str, Any]) -> MapDefinition:
        """Undo bpf_helpers.h: ``__uint`` makes a pointer to an array of that length, ``__type`` one to the type."""
        numbers: dict[str, int] = {}
        types: dict[str, Type] = {}
        for member in definition["members"]:
            target = self._types[self._types[member["type_id"]]["type_id"]]
            if member["name"] in ("key", "value"):
                types[member["name"]] = self.type(target["id"])
            elif target["kind"] == "ARRAY":
                numbers[member["name"]] = target["nr_elems"]
        sized = {
            what: Integer("__u32", 4) for what in ("key", "value") if numbers.get(f"{what}_size") == 4
        }  # of program arrays and maps of maps
        types = {**sized, **types}
        return MapDefinition(
            name,
            numbers["type"],
            numbers.get("max_entries", 0),
            numbers.get("map_flags", 0),
            types.get("key"),
            types.get("value"),
        )
