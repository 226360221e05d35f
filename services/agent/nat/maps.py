"""Map of the non-masquerade CIDRs, cilia_non_masquerade, as the agent reads and writes it."""

from collections.abc import Mapping

from cilia.abi import maps
from cilia.abi.structs import IpcacheKey
from cilia.datapath.errors import MapFull
from cilia.datapath.maps import Map
from cilia.datapath.objects import LoadedObject
from cilia.reconcile.plan import WriteResult
from services.agent.address import Prefix, packed, unpacked


class NonMasqueradeMap:
    """The map cilia_non_masquerade; pinned, so it outlives the agent.

    ``read`` is for one thread at a time, which may be another than the writer's: it uses a
    descriptor of its own.
    """

    def __init__(self, objects: LoadedObject) -> None:
        self._map: Map[IpcacheKey, int] = objects.map(maps.NON_MASQUERADE)
        self._read_map: Map[IpcacheKey, int] = objects.map(maps.NON_MASQUERADE)

    def close(self) -> None:
        """Give the map back."""
        self._map.close()
        self._read_map.close()

    def read(self) -> dict[Prefix, int]:
        """Return all prefixes in it."""
        return {Prefix(unpacked(key.address), key.prefixlen): value for key, value in self._read_map.items()}

    def write(self, changes: Mapping[Prefix, int | None]) -> WriteResult[Prefix]:
        """Remove prefixes (None), then add those for which there is room."""
        additions = [each for each, claims in changes.items() if claims is not None]
        self._map.delete_many(_key(each) for each, claims in changes.items() if claims is None)
        try:
            self._map.update_many((_key(each), 1) for each in additions)
        except MapFull as full:
            return WriteResult(full=str(full), left=frozenset(additions[full.done :]))
        return WriteResult()


def _key(each: Prefix) -> IpcacheKey:
    return IpcacheKey(each.length, packed(each.address))
