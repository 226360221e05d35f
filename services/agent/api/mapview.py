"""BPF maps as people read them: what there are, and their entries as named fields."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any, Final

from cilia.abi import maps
from cilia.abi.codec import MapLayout
from cilia.abi.kinds import PER_CPU, MapKind
from cilia.contracts.agent import MapContents, MapSummary
from cilia.datapath.descriptor import Descriptor
from cilia.datapath.map_info import map_info, memory_bytes
from cilia.datapath.objects import LoadedObject

LAYOUTS: Final[Mapping[str, MapLayout[Any, Any]]] = {
    layout.name: layout for layout in vars(maps).values() if isinstance(layout, MapLayout)
}
COUNTED: Final = 8192
"""Maps of at most so many entries are counted in a list."""
PLAIN: Final = frozenset({MapKind.ARRAY, MapKind.PERCPU_ARRAY})
ADDRESS_FIELDS: Final = frozenset({"tunnel", "address", "source", "destination"})

Fields = dict[str, int | str]


def summarise(objects: LoadedObject) -> tuple[MapSummary, ...]:
    """Return every map of the data plane."""
    return tuple(_summary(objects, name) for name in sorted({*LAYOUTS, maps.EVENTS.name}))


def contents(objects: LoadedObject, name: str, limit: int) -> MapContents:
    """Return up to ``limit`` entries of a map; of an array those that aren't zero.

    Raises:
        KeyError: There is no such map, or it holds no entries (a ring buffer).
    """
    entries = list(islice(_entries(objects, LAYOUTS[name]), limit + 1))
    return MapContents(name, tuple(entries[:limit]), truncated=len(entries) > limit)


def _summary(objects: LoadedObject, name: str) -> MapSummary:
    layout = LAYOUTS.get(name)
    with Descriptor(objects.map_fd(name)) as held:
        info = map_info(held.fileno())
        return MapSummary(
            name=name,
            kind=(layout.kind if layout else MapKind.RINGBUF).name.lower(),
            key_bytes=info.key_size,
            value_bytes=info.value_size,
            entries=_count(objects, layout, info.max_entries),
            max_entries=info.max_entries,
            memory_bytes=memory_bytes(held.fileno()),
        )


def _count(objects: LoadedObject, layout: MapLayout[Any, Any] | None, max_entries: int) -> int:
    if layout is None or max_entries > COUNTED:
        return -1
    if layout.kind in PLAIN:
        return max_entries
    with objects.map(layout) as opened:
        return sum(1 for _ in opened.keys())  # noqa: SIM118


def _entries(objects: LoadedObject, layout: MapLayout[Any, Any]) -> Iterator[tuple[Fields, Fields]]:
    opener = objects.per_cpu_map if layout.kind in PER_CPU else objects.map
    with opener(layout) as opened:
        for key in opened.keys():  # noqa: SIM118
            value = opened.lookup(key)
            if value is None or (layout.kind in PLAIN and not any(layout.value.pack(value))):
                continue
            yield _fields(key), _fields(value)


def _fields(value: Any) -> Fields:
    if not isinstance(value, tuple):
        return {"value": int(value)}
    fields: Fields = {}
    for name in value._fields:  # type: ignore[attr-defined]
        fields.update(_field(name.rstrip("_"), getattr(value, name)))
    return fields


def _field(name: str, value: Any) -> Fields:
    match value:
        case bytes() if len(value) == 6:
            return {name: value.hex(":")}
        case bytes() if len(value) == 16:
            mapped = value.startswith(bytes(10) + b"\xff\xff")
            return {name: str(IPv4Address(value[12:]) if mapped else IPv6Address(value))}
        case bytes():
            return {name: value.hex()}
        case int():
            return {name: str(IPv4Address(value)) if name.rstrip("01") in ADDRESS_FIELDS else value}
        case tuple() if hasattr(value, "_fields"):
            return {f"{name}.{inner}": each for inner, each in _fields(value).items()}
        case _:
            return {
                inner: each
                for index, item in enumerate(value)
                for inner, each in _field(f"{name}{index}", item).items()
            }
