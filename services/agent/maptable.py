"""Map of the data plane as the table of a reconciler: objects to entries, and back."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from cilia.abi.codec import K, MapLayout, V
from cilia.datapath.errors import MapFull
from cilia.datapath.objects import LoadedObject
from cilia.reconcile.plan import WriteResult

Object = TypeVar("Object")
State = TypeVar("State")


def _nobody(_: Iterable[object]) -> None:
    return


class MapTable(Generic[Object, State, K, V]):
    """A pinned map, which outlives the agent.

    ``read`` is for one thread at a time, which may be another than the writer's: it uses a
    descriptor of its own.

    Args:
        pack_key, pack_value: Return key and value of an object and its state.
        unpack: Returns the object and its state of an entry.
        written: Called with the objects that were written or removed.
    """

    def __init__(
        self,
        objects: LoadedObject,
        layout: MapLayout[K, V],
        *,
        pack_key: Callable[[Object], K],
        pack_value: Callable[[State], V],
        unpack: Callable[[K, V], tuple[Object, State]],
        written: Callable[[Iterable[Object]], None] = _nobody,
    ) -> None:
        self._map, self._read_map = objects.map(layout), objects.map(layout)
        self._pack_key = pack_key
        self._pack_value = pack_value
        self._unpack = unpack
        self._written = written

    def close(self) -> None:
        """Give the map back."""
        self._map.close()
        self._read_map.close()

    def read(self) -> dict[Object, State]:
        """Return all objects in it."""
        return dict(self._unpack(key, value) for key, value in self._read_map.items())

    def write(self, changes: Mapping[Object, State | None]) -> WriteResult[Object]:
        """Remove objects (None), then write those for which there is room."""
        upserts = [(each, state) for each, state in changes.items() if state is not None]
        self._map.delete_many(self._pack_key(each) for each, state in changes.items() if state is None)
        try:
            self._map.update_many((self._pack_key(each), self._pack_value(state)) for each, state in upserts)
        except MapFull as full:
            left = frozenset(each for each, _ in upserts[full.done :])
            self._written(changes.keys() - left)
            return WriteResult(full=str(full), left=left)
        self._written(changes)
        return WriteResult()
