"""Reconciler of the ipcache: nodes, endpoints, prefixes and own pods into cilia_ipcache.

After a restart the kernel's entries stay until all tables are complete; then what they don't name
goes. An entry that is already there is not written, so that no flow is decided anew for nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from cilia.backoff import Backoff
from cilia.contracts.identities import Reserved, is_remote_node
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.tables import ONE_SHARD, Endpoint, EndpointKey, Node, PrefixRow
from cilia.reconcile.plan import Plan, Status
from cilia.reconcile.reconciler import Reconciler, Target
from cilia.table.subscriber import TableSubscriber
from services.agent.address import Prefix, cidr_of
from services.agent.address import prefix as parse_prefix
from services.agent.ipcache.desired import Ipcache, Location, covering

log = logging.getLogger(__name__)

BATCH: Final = 4096
RETRY_SECONDS: Final = 5.0
"""Longest pause after which a full map is tried again."""
PREFIXES_SECONDS: Final = 5.0
"""Longest wait of a restarted agent for the table of prefixes, before newer policy is in force."""


class IpcacheTable(Target[Prefix, Location], Protocol):
    """Kernel table of addresses, such as :class:`~services.agent.ipcache.maps.IpcacheMap`."""

    @property
    def entries(self) -> dict[Prefix, Location]:
        """Entries that it held at first."""
        ...


@dataclass(frozen=True, slots=True)
class IpcacheSources:
    """Tables from which the ipcache follows."""

    nodes: TableSubscriber[NodeName, Node]
    endpoints: TableSubscriber[EndpointKey, Endpoint]
    prefixes: TableSubscriber[str, PrefixRow]


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """Policy of the identities that live here, as far as the order of writes depends on it."""

    wait_reached: Callable[[Revision], Awaitable[None]]
    """Waits until what a revision implies is in force."""
    inherit: Callable[[Mapping[Identity, Identity]], None]
    """Gives new identities the verdicts of others."""


class IpcacheReconciler(Reconciler[Prefix, Location]):
    """Keeps cilia_ipcache as desired.

    ``run``, ``prune``, ``watch_endpoints`` and ``watch_prefixes`` go to the supervisor, the table
    of nodes to ``feed_nodes``.
    """

    def __init__(
        self,
        ipcache: Ipcache,
        table: IpcacheTable,
        sources: IpcacheSources,
        policy: PolicyInForce,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        plan = Plan(ipcache.desired, table.entries, new_backoff=lambda: Backoff(1.0, RETRY_SECONDS))
        super().__init__(
            "ipcache entry",
            plan,
            table,
            ipcache.take_changes,
            batch=BATCH,
            wait_complete=self._wait_complete,
            describe=cidr_of,
            clock=clock,
        )
        self._ipcache = ipcache
        self._sources = sources
        self._policy = policy

    def set_local(self, addresses: Iterable[int], identity: Identity | None) -> None:
        """Note a pod of this node, or that it is gone, and write it at once."""
        addresses = tuple(addresses)
        for address in addresses:
            self._ipcache.set_local(address, identity)
        self.write_now(map(Prefix, addresses))
        self.wake()

    def set_host_addresses(self, addresses: Iterable[int]) -> None:
        """Note all addresses that the devices of this node have, in place of those before."""
        self._ipcache.set_host_addresses(addresses)
        self.wake()

    def set_hosts(self, addresses: Iterable[int]) -> None:
        """Note addresses of this node itself, such as the pods' gateways."""
        for address in addresses:
            self._ipcache.set_host(address)
        self.wake()

    def feed_nodes(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        self._ipcache.feed_nodes(upserts, removes)
        self.wake()

    async def write_new_prefixes(self) -> None:
        """Write prefixes that came while no agent ran, before policy of that time is in force.

        They inherit the verdicts that their addresses have until now, so nothing changes for them
        before that policy.
        """
        if self.plan.is_complete or not self.plan.applied:
            return
        prefixes = self._sources.prefixes
        try:
            async with asyncio.timeout(PREFIXES_SECONDS):
                await prefixes.wait_complete()
        except TimeoutError:
            log.warning("the table of prefixes is not complete after %g s", PREFIXES_SECONDS)
            return
        new = {cidr: row for cidr, row in prefixes.rows(ONE_SHARD).items() if not self._is_applied(cidr, row)}
        self._policy.inherit({row.identity: self._former_identity(cidr, row) for cidr, row in new.items()})
        self._ipcache.feed_prefixes(new, ())
        await self.write_all()

    def _former_identity(self, cidr: str, row: PrefixRow) -> Identity:
        """Return the identity that the addresses of a prefix had until now."""
        if is_remote_node(row.identity):
            return Identity(Reserved.REMOTE_NODE)
        return covering(self.plan.applied, parse_prefix(cidr))

    def _is_applied(self, cidr: str, row: PrefixRow) -> bool:
        found = self.plan.applied.get(parse_prefix(cidr))
        return found is not None and found.identity == row.identity

    async def watch_prefixes(self) -> None:
        """Take changes of the table of prefixes, until cancelled.

        A prefix comes to be known once every policy here knows of its identity: until then its
        addresses are what they were. One that goes, goes at once, long before its identity does.
        """
        async for changes in self._sources.prefixes.changes():
            for change in changes:
                self._ipcache.feed_prefixes({}, change.removes)
                self.wake()
                await self._policy.wait_reached(Revision(change.sequence))
                self._ipcache.feed_prefixes(change.upserts, ())
                self.wake()

    async def wait_prefixes(self, cidrs: Iterable[str]) -> None:
        """Wait until the kernel knows prefixes; bound it with ``asyncio.timeout``."""
        for cidr in cidrs:
            prefix = parse_prefix(cidr)
            while not self._ipcache.has_prefix(cidr) or self.plan.status(prefix) is not Status.DONE:
                await self.written.wait()

    async def wait_addresses(self, addresses: Iterable[str], identity: Identity) -> None:
        """Wait until the kernel has addresses under an identity; bound it likewise."""
        for address in addresses:
            prefix = parse_prefix(address)
            while not self._ipcache.has_identity(prefix, identity) or self.plan.status(prefix) is not Status.DONE:
                await self.written.wait()

    async def watch_endpoints(self) -> None:
        """Take changes of the table of endpoints until cancelled."""
        async for changes in self._sources.endpoints.changes():
            for change in changes:
                self._ipcache.feed_endpoints(change.upserts, change.removes)
            self.wake()

    async def _wait_complete(self) -> None:
        sources = self._sources
        await sources.nodes.wait_complete()
        await sources.endpoints.wait_complete()
        await sources.prefixes.wait_complete()
        await self._policy.wait_reached(Revision(sources.prefixes.sequence(ONE_SHARD)))
