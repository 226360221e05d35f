"""The ipcache loop: tables of nodes, endpoints and prefixes, and the node's own pods, into
cilia_ipcache.

After a restart the kernel's entries stay until all tables are complete; then what they don't name
goes. An entry that is already there is not written, so that no flow is decided anew for nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Final

from cilia.contracts.identities import Reserved, is_remote_node
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.tables import ONE_SHARD, Endpoint, EndpointKey, Node, PrefixRow
from cilia.datapath.errors import MapFull
from cilia.table.subscriber import TableSubscriber
from services.agent.address import Prefix
from services.agent.address import prefix as parse_prefix
from services.agent.ipcache.desired import Ipcache, Location, covering
from services.agent.ipcache.maps import BATCH, AddressMaps

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 5.0
"""A restarted agent waits so long for the table of prefixes before it brings newer policy into
force.
"""
LINGER_SECONDS: Final = 1.0
"""Between the completion of the tables and the removal of what they don't name; the watchers run
meanwhile.
"""


class IpcacheReconciler:
    """Keeps cilia_ipcache as desired.

    ``run``, ``watch_endpoints`` and ``prune`` go to the supervisor.
    """

    def __init__(
        self,
        maps: AddressMaps,
        ipcache: Ipcache,
        nodes: TableSubscriber[NodeName, Node],
        endpoints: TableSubscriber[EndpointKey, Endpoint],
        prefixes: TableSubscriber[str, PrefixRow],
        reached: Callable[[Revision], Awaitable[None]],
        inherit: Callable[[Mapping[Identity, Identity]], None],
    ) -> None:
        self._maps = maps
        self._ipcache = ipcache
        self._nodes = nodes
        self._endpoints = endpoints
        self._prefixes = prefixes
        self._reached = reached
        self._inherit = inherit
        self._present: dict[Prefix, Location] | None = maps.read_ipcache()
        self._pending: dict[Prefix, Location | None] = {}
        self._written = asyncio.Event()
        self._wake = asyncio.Event()
        self._wake.set()
        self.last_error = ""
        self.failures = 0

    @property
    def desired(self) -> int:
        """Entries that shall be."""
        return len(self._ipcache.desired)

    @property
    def pending(self) -> int:
        """Entries that are not written yet."""
        return len(self._pending)

    def set_local(self, addresses: Iterable[int], identity: Identity | None) -> None:
        """Note a pod of this node, or that it is gone, and write it at once."""
        for address in addresses:
            self._ipcache.set_local(address, identity)
        self._take()
        self._write(BATCH)

    def set_gateways(self, gateways: Collection[int]) -> None:
        """Have the programs know the pods' gateways, which are this node's own addresses."""
        self._maps.set_gateways(gateways)
        for address in gateways:
            self._ipcache.set_host(address)
        self._wake.set()

    def feed_nodes(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        self._ipcache.feed_nodes(upserts, removes)
        self._wake.set()

    async def settle_prefixes(self) -> None:
        """Have the prefixes that came while no agent ran told apart, before the policy that came
        meanwhile is in force.

        They inherit the verdicts that their addresses have until now, so nothing changes for them
        before that policy.
        """
        if not self._present:
            return
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._prefixes.wait_complete()
        except TimeoutError:
            log.warning("the table of prefixes is not complete after %g s", SETTLE_SECONDS)
            return
        fresh = {text: row for text, row in self._prefixes.rows(ONE_SHARD).items() if not self._is_present(text, row)}
        self._inherit({row.identity: self._former(text, row) for text, row in fresh.items()})
        self._ipcache.feed_prefixes(fresh, ())
        self._take()
        while self._pending and self._write(BATCH):
            pass

    def _former(self, cidr: str, row: PrefixRow) -> Identity:
        """Return what the addresses of a prefix were until now."""
        if is_remote_node(row.identity):
            return Identity(Reserved.REMOTE_NODE)
        return covering(self._present or {}, parse_prefix(cidr))

    def _is_present(self, cidr: str, row: PrefixRow) -> bool:
        found = (self._present or {}).get(parse_prefix(cidr))
        return found is not None and found.identity == row.identity

    async def watch_prefixes(self) -> None:
        """Take changes of the table of prefixes, until cancelled.

        A prefix comes to be known once every policy here knows of its identity: until then its
        addresses are what they were. One that goes, goes at once, long before its identity does.
        """
        async for changes in self._prefixes.changes():
            for change in changes:
                self._ipcache.feed_prefixes({}, change.removes)
                self._wake.set()
                await self._reached(Revision(change.sequence))
                self._ipcache.feed_prefixes(change.upserts, ())
                self._wake.set()

    async def wait_prefixes(self, cidrs: Iterable[str]) -> None:
        """Wait until the kernel knows the identities of prefixes; bound it with
        ``asyncio.timeout``.
        """
        for cidr in cidrs:
            while self._wake.is_set() or not self._ipcache.has_prefix(cidr) or parse_prefix(cidr) in self._pending:
                await self._written.wait()

    async def watch_endpoints(self) -> None:
        """Take changes of the table of endpoints until cancelled."""
        async for changes in self._endpoints.changes():
            for change in changes:
                self._ipcache.feed_endpoints(change.upserts, change.removes)
            self._wake.set()

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._take()
            if self._pending and not self._write(BATCH):
                await asyncio.sleep(RETRY_SECONDS)
            self._written.set()
            self._written = asyncio.Event()
            if self._pending:
                self._wake.set()
                await asyncio.sleep(0)

    async def prune(self) -> None:
        """Once all tables are complete, remove what a former agent left and they don't name; then
        idle.
        """
        await self._nodes.wait_complete()
        await self._endpoints.wait_complete()
        await self._prefixes.wait_complete()
        await self._reached(Revision(self._prefixes.sequence(ONE_SHARD)))
        await asyncio.sleep(LINGER_SECONDS)
        self._take()
        present, self._present = self._present or {}, None
        stale = present.keys() - self._ipcache.desired.keys()
        self._pending.update(dict.fromkeys(stale))
        self._wake.set()
        log.info("the ipcache is complete", extra={"entries": self.desired, "pruned": len(stale)})
        await asyncio.Event().wait()

    def _take(self) -> None:
        for prefix, location in self._ipcache.take_changes().items():
            if self._present is not None and self._present.get(prefix) == location:
                self._pending.pop(prefix, None)
            else:
                self._pending[prefix] = location

    def _write(self, limit: int) -> bool:
        """Write some of what is pending; return False if there was no room."""
        some = dict(islice(self._pending.items(), limit))
        try:
            self._maps.write_ipcache(some)
        except MapFull as full:
            self.failures += 1
            if not self.last_error:
                log.error("%s; %d entries wait", full, len(self._pending))
            self.last_error = str(full)
            return False
        self.last_error = ""
        if self._present is not None:
            for prefix, location in some.items():
                if location is None:
                    self._present.pop(prefix, None)
                else:
                    self._present[prefix] = location
        for prefix in some:
            del self._pending[prefix]
        return True
