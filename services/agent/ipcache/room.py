"""Ipcache: the identity and the node of each address, kept in cilia_ipcache."""

from collections.abc import Iterable

from cilia.abi import maps
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.address import number
from services.agent.config import Config, RoutingMode
from services.agent.drift.loop import Look
from services.agent.ipcache.desired import Ipcache
from services.agent.ipcache.drift import IpcacheDrift
from services.agent.ipcache.maps import IpcacheMap
from services.agent.ipcache.reconciler import IpcacheReconciler, IpcacheSources, PolicyInForce
from services.agent.ipcache.revisions import AddressRevisions
from services.agent.kernel import Kernel
from services.agent.node.pool import Addresses
from services.agent.node.tables import Tables
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.room import Entries, Room


class IpcacheRoom(Room):
    """Ipcache of the node, and the revisions of addresses, cilia_addresses."""

    def __init__(self, config: Config, kernel: Kernel, tables: Tables, policy: PolicyReconciler) -> None:
        own = filter(None, (config.ipv4, config.ipv6))
        self.desired = Ipcache(config.node, *own, tunnels=config.routing is RoutingMode.OVERLAY)
        self.revisions = AddressRevisions(kernel.objects)
        self._map = IpcacheMap(kernel.objects, self.revisions)
        self.reconciler = IpcacheReconciler(
            self.desired,
            self._map,
            IpcacheSources(tables.nodes, tables.endpoints, tables.prefixes),
            PolicyInForce(policy.wait_reached, policy.inherit),
        )
        self._drift = IpcacheDrift(self.reconciler, self._map, kernel.readers.run, self.revisions.renew_all)

    def registered(self, gateways: Addresses) -> None:
        """Know the gateways that the node got as its own addresses."""
        self.reconciler.set_hosts(number(gateway) for gateway in gateways if gateway)

    def loops(self) -> dict[str, Loop]:
        """Return all loops."""
        return {
            "endpoints": self.reconciler.watch_endpoints,
            "prefixes": self.reconciler.watch_prefixes,
            "ipcache": self.reconciler.run,
            "ipcache prune": self.reconciler.prune,
        }

    def looks(self) -> dict[str, Look]:
        """Return the look at cilia_ipcache."""
        return {"ipcache": self._drift.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of cilia_ipcache."""
        ipcache = self.reconciler
        yield LoopStatus(LoopName.IPCACHE, ipcache.desired, ipcache.pending, ipcache.failures, ipcache.last_error)

    def errors(self) -> Iterable[str]:
        """Return why entries are missing."""
        return (self.reconciler.last_error,)

    def measure(self, metrics: Metrics) -> None:
        """Show how many entries there are and are not yet."""
        ipcache = self.reconciler
        metrics.gauge("ipcache_entries", "entries of cilia_ipcache", lambda: ipcache.desired)
        metrics.gauge("ipcache_pending", "entries of cilia_ipcache not written yet", lambda: ipcache.pending)

    def map_entries(self) -> Entries:
        """Return the entries that the reconciler keeps count of."""
        return {maps.IPCACHE.name: lambda: self.reconciler.desired}

    def close(self) -> None:
        """Give the maps back."""
        self._map.close()
        self.revisions.close()
