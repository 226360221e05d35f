"""Pressure of maps: the part of each that is taken.

A room that knows a map's entries says so; the others are counted when asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cilia.abi import maps
from cilia.abi.codec import MapLayout
from cilia.abi.kinds import MapKind
from cilia.datapath.descriptor import Descriptor
from cilia.datapath.map_info import map_info
from cilia.datapath.objects import LoadedObject
from cilia.metrics import Metrics

HOLDING: Final = frozenset({MapKind.HASH, MapKind.LRU_HASH, MapKind.LPM_TRIE})
"""Kinds that fill; an array always has all of its elements."""
LAYOUTS: Final[tuple[MapLayout[Any, Any], ...]] = tuple(
    layout for layout in vars(maps).values() if isinstance(layout, MapLayout) and layout.kind in HOLDING
)


class Pressure:
    """Entries and capacity of each map that can fill."""

    def __init__(self, objects: LoadedObject, entries: Mapping[str, Callable[[], int]]) -> None:
        """Take the capacities from the kernel.

        Args:
            entries: Map -> its present entries, where a part of the agent knows them.
        """
        self._objects = objects
        self._entries = {layout.name: entries.get(layout.name, self._counter(layout)) for layout in LAYOUTS}
        self._entries |= {name: read for name, read in entries.items() if name not in self._entries}
        self.capacities = {name: self._capacity(name) for name in self._entries}

    def measure(self, metrics: Metrics) -> None:
        """Show each map's capacity, and which part of it is taken."""
        for name, read in self._entries.items():
            capacity = self.capacities[name]
            capacity_of, pressure_of = _readers(read, capacity)
            metrics.gauge("map_capacity_entries", "entries that a map can hold", capacity_of, map=name)
            metrics.gauge("map_pressure_ratio", "part of a map that is taken, 0 to 1", pressure_of, map=name)

    def _capacity(self, name: str) -> int:
        with Descriptor(self._objects.map_fd(name)) as held:
            return map_info(held.fileno()).max_entries

    def _counter(self, layout: MapLayout[Any, Any]) -> Callable[[], int]:
        def count() -> int:
            with self._objects.map(layout) as opened:
                return sum(len(keys) // layout.key.size for keys, _ in opened.batches())

        return count


def _readers(read: Callable[[], int], capacity: int) -> tuple[Callable[[], float], Callable[[], float]]:
    return lambda: capacity, lambda: read() / capacity
