"""Map of the ipcache, cilia_ipcache, as the agent reads and writes it.

Pinned, so it outlives the agent. ``read`` and ``read_digest`` are for one thread at a time, which
may be another than the writer's: they use a descriptor of their own.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from cilia.abi import maps
from cilia.abi.structs import IpcacheEntry, IpcacheKey
from cilia.datapath.errors import MapFull
from cilia.datapath.objects import LoadedObject
from cilia.reconcile.plan import Differences, WriteResult
from services.agent.address import Prefix, packed, unpacked
from services.agent.ipcache.desired import Location
from services.agent.ipcache.revisions import AddressRevisions

DIGESTS: Final = 1 << 64


class IpcacheMap:
    """The map cilia_ipcache, and a digest of what it should hold.

    A hundred thousand entries are compared by one number, the sum of their hashes, which the
    kernel's side computes outside of Python and ours keeps up with each write.
    """

    def __init__(self, objects: LoadedObject, revisions: AddressRevisions) -> None:
        self._map, self._read_map = objects.map(maps.IPCACHE), objects.map(maps.IPCACHE)
        self._revisions = revisions
        self.entries: Final = self.read()
        """Entries that it held at first; the reconciler's plan keeps them up to date."""
        self.digest = self._digest_of(self.entries)
        """Digest of the entries as written."""
        self.writes = 0
        """Number that grows with each change by ourselves."""

    def close(self) -> None:
        """Give the map back."""
        self._map.close()
        self._read_map.close()

    def read(self) -> dict[Prefix, Location]:
        """Return the entries in the kernel."""
        return {Prefix(unpacked(key.address), key.prefixlen): Location(*value) for key, value in self._read_map.items()}

    def read_digest(self) -> int:
        """Return the digest of the entries in the kernel."""
        return self._read_map.digest()

    def write(self, changes: Mapping[Prefix, Location | None]) -> WriteResult[Prefix]:
        """Remove and write entries, then have the flows of their addresses decided anew.

        What goes makes room for what comes; what was written before the map was full is in force
        for flows that stand.
        """
        upserts = {prefix: location for prefix, location in changes.items() if location is not None}
        removes = [prefix for prefix, location in changes.items() if location is None]
        self._map.delete_many(map(_key, removes))
        written, reason = upserts, ""
        try:
            self._map.update_many(map(_element, upserts.items()))
        except MapFull as full:
            written, reason = dict(islice(upserts.items(), full.done)), str(full)
        former = {prefix: self.entries[prefix] for prefix in (*written, *removes) if prefix in self.entries}
        self.digest = (self.digest + self._digest_of(written) - self._digest_of(former)) % DIGESTS
        self.writes += 1
        for prefix in changes:
            self._revisions.renew(prefix)
        return WriteResult(full=reason, left=upserts.keys() - written.keys())

    def adopt(self, differences: Differences[Prefix, Location]) -> None:
        """Note entries that the kernel was found to hold, in place of those written."""
        found = {prefix: present for prefix, (present, _) in differences.items() if present is not None}
        written = {prefix: former for prefix, (_, former) in differences.items() if former is not None}
        self.digest = (self.digest + self._digest_of(found) - self._digest_of(written)) % DIGESTS

    def _digest_of(self, entries: Mapping[Prefix, Location]) -> int:
        return self._map.digest_of(map(_element, entries.items()))


def _key(prefix: Prefix) -> IpcacheKey:
    return IpcacheKey(prefix.length, packed(prefix.address))


def _element(entry: tuple[Prefix, Location]) -> tuple[IpcacheKey, IpcacheEntry]:
    prefix, location = entry
    return _key(prefix), IpcacheEntry(*location)
