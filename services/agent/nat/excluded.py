"""Where pods are known by their own addresses: what is configured, and the pods' networks of the
cluster.

The table of nodes and the settings in, the entries of cilia_non_masquerade out. Additions are
written at once; what a former agent left and nobody wants goes once the table is complete.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import Final

from cilia.abi import maps
from cilia.abi.structs import IpcacheKey
from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.datapath.errors import MapFull
from cilia.datapath.maps import Map
from cilia.datapath.objects import LoadedObject
from cilia.table.subscriber import TableSubscriber
from services.agent.address import Prefix, packed, prefix, unpacked

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 1.0


class ExcludedCidrs:
    """The desired prefixes, kept up to date row by row. Pure."""

    def __init__(self, configured: Iterable[str]) -> None:
        self._claims = Counter(prefix(cidr) for cidr in configured)
        self._blocks: dict[NodeName, tuple[Prefix, ...]] = {}

    @property
    def desired(self) -> Set[Prefix]:
        """All prefixes that shall be there."""
        return self._claims.keys()

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> set[Prefix]:
        """Take changes of the table of nodes; return the prefixes that came or went, and perhaps
        more.
        """
        touched: set[Prefix] = set()
        for name in (*removes, *upserts):
            row = upserts.get(name)
            old, new = self._blocks.pop(name, ()), tuple(map(prefix, row.pod_cidrs)) if row else ()
            if new:
                self._blocks[name] = new
            self._claims.update(new)
            for block in old:
                self._claims[block] -= 1
                if not self._claims[block]:
                    del self._claims[block]
            touched.update(set(old) ^ set(new))
        return touched


class ExcludedCidrMap:
    """cilia_non_masquerade."""

    def __init__(self, objects: LoadedObject) -> None:
        self._map: Map[IpcacheKey, int] = objects.map(maps.NON_MASQUERADE)

    def close(self) -> None:
        """Give the map back."""
        self._map.close()

    def read(self) -> set[Prefix]:
        """Return all prefixes in it."""
        return {Prefix(unpacked(key.address), key.prefixlen) for key, _ in self._map.items()}

    def write(self, additions: Iterable[Prefix], removals: Iterable[Prefix]) -> None:
        """Add and remove prefixes.

        Raises:
            MapFull: No room; the removals are done then.
        """
        self._map.delete_many(_key(each) for each in removals)
        self._map.update_many((_key(each), 1) for each in additions)


class ExcludedCidrReconciler:
    """Keeps the map as desired. ``run`` goes to the supervisor, the table of nodes to ``feed``."""

    def __init__(
        self, exclusions: ExcludedCidrs, kernel: ExcludedCidrMap, nodes: TableSubscriber[NodeName, Node]
    ) -> None:
        self._exclusions = exclusions
        self._kernel = kernel
        self._nodes = nodes
        self._present = kernel.read()
        self._touched = set(exclusions.desired) | self._present
        self._wake = asyncio.Event()
        self._wake.set()
        self.failures = 0
        self.last_error = ""

    @property
    def desired(self) -> int:
        """Prefixes that shall be there."""
        return len(self._exclusions.desired)

    @property
    def pending(self) -> int:
        """Prefixes that aren't written or removed yet."""
        return sum((each in self._exclusions.desired) != (each in self._present) for each in self._touched)

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        self._touched |= self._exclusions.feed(upserts, removes)
        self._wake.set()

    async def run(self) -> None:
        """Write what is desired, at first without removing anything, until cancelled."""
        self._write(self._touched & self._exclusions.desired)
        await self._nodes.wait_complete()
        await asyncio.sleep(LINGER_SECONDS)
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._write(self._touched):
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    def _write(self, touched: Set[Prefix]) -> bool:
        desired = self._exclusions.desired
        additions = [each for each in touched if each in desired and each not in self._present]
        removals = [each for each in touched if each not in desired and each in self._present]
        try:
            self._kernel.write(additions, removals)
        except MapFull as error:
            self._present = self._kernel.read()
            self.failures += 1
            self.last_error = str(error)
            log.error("%s", error)
            return False
        self._present.update(additions)
        self._present.difference_update(removals)
        self._touched = self._touched - touched
        self.last_error = ""
        return True


def _key(each: Prefix) -> IpcacheKey:
    return IpcacheKey(each.length, packed(each.address))
