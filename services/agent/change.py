"""Count of all changes that may alter a verdict, cilia_change: a denial that a program remembers
holds while it stays the same.
"""

from cilia.abi import maps
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.objects import LoadedObject


class ChangeCount:
    """The map cilia_change, for one of its writers."""

    def __init__(self, objects: LoadedObject) -> None:
        with objects.map(maps.CHANGE) as change:
            self._memory = ArrayMemory(change)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def advance(self) -> None:
        """Have everything that was denied decided anew; to be called after a change."""
        self._memory.add_u32(0)
