"""Word of all changes that may alter a verdict, cilia_change: what a program has found to hold at a
word holds while it stays the same, and nothing is stamped with it while a change is under way.

Writers may overlap, in any threads: each adds to the word, atomically, when it begins and when it
is done.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cilia.abi import maps
from cilia.abi.enums import ChangePart
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.objects import LoadedObject


class ChangeWord:
    """The map cilia_change, for one of its writers."""

    def __init__(self, objects: LoadedObject) -> None:
        with objects.map(maps.CHANGE) as change:
            self._memory = ArrayMemory(change)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def note(self) -> None:
        """Have nothing believed that was found to hold before a change, which was made."""
        self._memory.add_u32(0, ChangePart.DONE)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Make a change within the block: each of its stores takes effect at once, and nothing that
        was found to hold before is believed after it.
        """
        self._memory.add_u32(0)
        try:
            yield
        finally:
            self._memory.add_u32(0, ChangePart.DONE - 1)


def settle_changes(objects: LoadedObject) -> None:
    """End the changes that a former agent left under way, before there is a writer."""
    with objects.map(maps.CHANGE) as change, ArrayMemory(change) as memory:
        word = memory.load_u32(0) & ~ChangePart.UNDER_WAY
        memory.store_u32(0, (word + ChangePart.DONE) % (1 << 32))
