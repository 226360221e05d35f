"""Ipcache: the identity and the node of each address, kept in cilia_ipcache."""

from collections.abc import Iterable, Mapping

from cilia.abi import maps
from cilia.abi.structs import Block, IpcacheKey
from cilia.backoff import Backoff
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.datapath.objects import LoadedObject
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from cilia.reconcile.plan import Plan
from cilia.reconcile.reconciler import Reconciler
from services.agent.address import Prefix, cidr_of, number, packed, unpacked
from services.agent.config import Config, RoutingMode
from services.agent.drift.loop import Look
from services.agent.drift.reconciled import ReconciledDrift
from services.agent.ipcache.blocks import Blocks
from services.agent.ipcache.desired import Ipcache
from services.agent.ipcache.drift import IpcacheDrift
from services.agent.ipcache.maps import IpcacheMap
from services.agent.ipcache.reconciler import BATCH, RETRY_SECONDS, IpcacheReconciler, IpcacheSources, PolicyInForce
from services.agent.ipcache.revisions import AddressRevisions
from services.agent.kernel import Kernel
from services.agent.maptable import MapTable
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
        self._block_table = block_table(kernel.objects)
        self._blocks = Blocks(config.node, tunnels=config.routing is RoutingMode.OVERLAY)
        self.blocks = Reconciler(
            "block",
            Plan(self._blocks.desired, self._block_table.read(), new_backoff=lambda: Backoff(1.0, RETRY_SECONDS)),
            self._block_table,
            self._blocks.take_changes,
            batch=BATCH,
            wait_complete=tables.nodes.wait_complete,
            describe=cidr_of,
        )
        self._block_drift = ReconciledDrift(
            "blocks",
            self.blocks,
            self._block_table.read,
            kernel.readers.run,
            describe=cidr_of,
            state="tunnel {:#x}".format,
        )

    def feed_nodes(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes; a block is known before its pods are."""
        removes = tuple(removes)
        self._blocks.feed(upserts, removes)
        self.blocks.wake()
        self.reconciler.feed_nodes(upserts, removes)

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
            "blocks": self.blocks.run,
            "blocks prune": self.blocks.prune,
        }

    def looks(self) -> dict[str, Look]:
        """Return the looks at cilia_ipcache and cilia_blocks."""
        return {"ipcache": self._drift.look, "blocks": self._block_drift.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of cilia_ipcache and cilia_blocks."""
        for name, each in ((LoopName.IPCACHE, self.reconciler), (LoopName.BLOCKS, self.blocks)):
            yield LoopStatus(name, each.desired, each.pending, each.failures, each.last_error)

    def errors(self) -> Iterable[str]:
        """Return why entries are missing."""
        return self.reconciler.last_error, self.blocks.last_error

    def measure(self, metrics: Metrics) -> None:
        """Show how many entries there are and are not yet."""
        ipcache = self.reconciler
        metrics.gauge("ipcache_entries", "entries of cilia_ipcache", lambda: ipcache.desired)
        metrics.gauge("blocks", "blocks of other nodes' pods in cilia_blocks", lambda: self.blocks.desired)
        metrics.gauge("ipcache_pending", "entries of cilia_ipcache not written yet", lambda: ipcache.pending)

    def map_entries(self) -> Entries:
        """Return the entries that the reconciler keeps count of."""
        return {
            maps.IPCACHE.name: lambda: self.reconciler.desired,
            maps.BLOCKS.name: lambda: self.blocks.desired,
        }

    def close(self) -> None:
        """Give the maps back."""
        self._map.close()
        self._block_table.close()
        self.revisions.close()


def block_table(objects: LoadedObject) -> MapTable[Prefix, int, IpcacheKey, Block]:
    """Return cilia_blocks: blocks, and the tunnels of their nodes."""
    return MapTable(
        objects,
        maps.BLOCKS,
        pack_key=lambda block: IpcacheKey(block.length, packed(block.address)),
        pack_value=Block,
        unpack=lambda key, block: (Prefix(unpacked(key.address), key.prefixlen), block.tunnel),
    )
