"""Drift of the ipcache: by digest, and if that differs, entry by entry."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from cilia.reconcile.plan import Differences
from services.agent.address import HOST_BITS, Prefix, cidr_of
from services.agent.drift.loop import read_undisturbed
from services.agent.drift.reporter import Drift, some_of
from services.agent.ipcache.desired import Location
from services.agent.ipcache.reconciler import IpcacheReconciler


class DigestedTable(Protocol):
    """Kernel table with a digest, such as :class:`~services.agent.ipcache.maps.IpcacheMap`."""

    digest: int
    writes: int

    def read(self) -> dict[Prefix, Location]:
        """Return the entries in the kernel."""
        ...

    def read_digest(self) -> int:
        """Return the digest of the entries in the kernel."""
        ...

    def adopt(self, differences: Differences[Prefix, Location], /) -> None:
        """Note entries that the kernel was found to hold, in place of those written."""
        ...


class IpcacheDrift:
    """Looks at cilia_ipcache, and has mended what differs.

    Args:
        in_thread: Runs a function that reads in a thread of its own.
        renew_all: Has all flows decided anew.
    """

    def __init__(
        self,
        reconciler: IpcacheReconciler,
        table: DigestedTable,
        in_thread: Callable[..., Awaitable[Any]],
        renew_all: Callable[[], None],
    ) -> None:
        self._reconciler = reconciler
        self._table = table
        self._in_thread = in_thread
        self._renew_all = renew_all

    async def look(self) -> list[Drift]:
        """Compare once; return what was wrong."""
        digest = await read_undisturbed(lambda: self._in_thread(self._table.read_digest), self._writes)
        if digest in (None, self._table.digest):
            return []
        found = await read_undisturbed(self._read, self._writes)
        if found is None:
            return []
        differences: Differences[Prefix, Location] = {}
        for some in self._reconciler.plan.compare(found):
            self._table.adopt(some)
            differences |= some
            await asyncio.sleep(0)
        await self._reconciler.write_all()
        if any(prefix.length < HOST_BITS for prefix in differences):
            self._renew_all()
        described = (
            f"{cidr_of(prefix)} was {present or 'missing'}, not {written or 'missing'}"
            for prefix, (present, written) in differences.items()
        )
        return [some_of("ipcache", described, len(differences))]

    async def _read(self) -> dict[Prefix, Location]:
        self._reconciler.plan.begin_look()
        found: dict[Prefix, Location] = await self._in_thread(self._table.read)
        return found

    def _writes(self) -> int:
        return self._table.writes
