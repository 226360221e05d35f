"""Addresses and their identities: cilia_ipcache and its fellows, their loops and their drift."""

from collections.abc import Iterable

from cilia.abi import maps
from cilia.contracts.agent import LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.address import number
from services.agent.config import Config, RoutingMode
from services.agent.ipcache.desired import Ipcache
from services.agent.ipcache.drift import AddressDrift
from services.agent.ipcache.maps import AddressMaps
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.kernel import Kernel
from services.agent.metrics.drift import DriftReports
from services.agent.node.pool import Addresses
from services.agent.node.tables import Tables
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.room import Entries, Room


class IpcacheRoom(Room):
    """The ipcache: who has which address, and where."""

    def __init__(
        self, config: Config, kernel: Kernel, tables: Tables, policy: PolicyReconciler, reports: DriftReports
    ) -> None:
        own = filter(None, (config.ipv4, config.ipv6))
        self.desired = Ipcache(config.node, *own, tunnels=config.routing is RoutingMode.OVERLAY)
        self.maps = AddressMaps(kernel.objects)
        self.reconciler = IpcacheReconciler(
            self.maps,
            self.desired,
            tables.nodes,
            tables.endpoints,
            tables.prefixes,
            policy.wait_reached,
            policy.inherit,
        )
        self._drift = AddressDrift(self.maps, kernel.readers, reports, seconds=config.audit_seconds)

    def registered(self, gateways: Addresses) -> None:
        """Have the programs know the gateways that the node got."""
        self.reconciler.set_gateways({number(gateway) for gateway in gateways if gateway})

    def loops(self) -> dict[str, Loop]:
        """Return all loops."""
        return {
            "endpoints": self.reconciler.watch_endpoints,
            "prefixes": self.reconciler.watch_prefixes,
            "ipcache": self.reconciler.run,
            "prune": self.reconciler.prune,
            "address drift": self._drift.run,
        }

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of cilia_ipcache."""
        ipcache = self.reconciler
        yield LoopStatus("ipcache", ipcache.desired, ipcache.pending, ipcache.failures, ipcache.last_error)

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
        self.maps.close()
