"""Structs, enums, maps and configuration of an object file, by its BTF."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cilia.datapath.btf import Btf, Kind, Record
from cilia.datapath.layout import Enum, Integer, Struct, Type
from cilia.datapath.map_types import btf_of_file
from cilia.datapath.objects import read_variables


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """A map of the object; ring buffers have neither key nor value."""

    name: str
    kind: int
    max_entries: int
    flags: int
    key: Type | None
    value: Type | None


@dataclass(frozen=True, slots=True)
class Variable:
    """A ``const volatile`` variable of the object: its configuration."""

    name: str
    type: Type
    initial: bytes


class ObjectBtf:
    """The types of one object."""

    def __init__(self, btf: Btf, initial: Mapping[str, bytes]) -> None:
        """Take over the types, and the initial values of variables."""
        self._btf = btf
        self._initial = initial

    @classmethod
    def of(cls, file: Path) -> "ObjectBtf":
        """Read an object file; raises KernelError if it has no BTF."""
        return cls(btf_of_file(file), read_variables(file))

    def structs(self) -> Iterator[Struct]:
        """Give the named structs."""
        return (self._btf.struct(one) for one in self._named(Kind.STRUCT))

    def enums(self) -> Iterator[Enum]:
        """Give the named enums."""
        return (self._btf.enum(one) for one in self._named(Kind.ENUM))

    def maps(self) -> Iterator[MapDefinition]:
        """Give the maps."""
        records = self._btf.records
        for section in self._named(Kind.SECTION):
            if section.name == ".maps":
                for number, _, _ in section.rest:
                    variable = records[number]
                    yield self._map(variable.name, records[variable.size])

    def variables(self) -> Iterator[Variable]:
        """Give the configuration."""
        variables = (one for one in self._named(Kind.VARIABLE) if one.name in self._initial)
        return (Variable(one.name, self._btf.type(one.size), self._initial[one.name]) for one in variables)

    def _named(self, kind: Kind) -> Iterator[Record]:
        return (one for one in self._btf.records.values() if one.kind is kind and one.name)

    def _map(self, name: str, definition: Record) -> MapDefinition:
        """Undo bpf_helpers.h: ``__uint`` makes a pointer to an array of that length, ``__type`` one
        to the type.
        """
        records = self._btf.records
        numbers: dict[str, int] = {}
        types: dict[str, Type] = {}
        for name_at, pointer, _ in definition.rest:
            member, target = self._btf.text(name_at), records[pointer].size
            if member in ("key", "value"):
                types[member] = self._btf.type(target)
            elif records[target].kind is Kind.ARRAY:
                _, _, numbers[member] = records[target].rest[0]
        sized = {
            what: Integer("__u32", 4) for what in ("key", "value") if numbers.get(f"{what}_size") == 4
        }  # program arrays and maps of maps have sizes alone
        types = {**sized, **types}
        return MapDefinition(
            name,
            numbers["type"],
            numbers.get("max_entries", 0),
            numbers.get("map_flags", 0),
            types.get("key"),
            types.get("value"),
        )
