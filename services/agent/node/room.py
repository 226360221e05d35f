"""Membership of the node: its tables, its blocks, its heartbeats, and those who hear of them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cilia.bus import Bus
from cilia.contracts.agent import LoopName, LoopStatus, TableStatus
from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.ipam import RegisterNode
from cilia.contracts.tables import Node
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from cilia.table.shard import Change
from services.agent.address import number
from services.agent.config import Config
from services.agent.drift.loop import Look
from services.agent.kernel import Kernel
from services.agent.loader.devices import set_gateways
from services.agent.node.gateways import GatewayMap
from services.agent.node.pool import Addresses, AddressPool
from services.agent.node.registration import MEMBERSHIP_FILE, Registration
from services.agent.node.tables import Tables
from services.agent.room import Room

FeedNodes = Callable[[Mapping[NodeName, Node], Iterable[NodeName]], None]
"""Takes changes of the table of nodes: upserts and removes."""


class NodeRoom(Room):
    """The node as a member of its cluster.

    Attributes:
        bus: Way to the services.
        tables: What the node hears of the cluster.
        registered: Called after each registration, in order, with the gateways of pods.
        comparisons: Called in each registration with its revision, to compare rows with pods.
        feeds: Called with each change of the table of nodes.
    """

    def __init__(self, config: Config, kernel: Kernel, bus: Bus) -> None:
        self._kernel = kernel
        self.bus = bus
        self.tables = Tables.subscribe(bus, config.node)
        self.gateways = GatewayMap(kernel.objects)
        self.pool = AddressPool(config.versions)
        self.registered: list[Callable[[Addresses], None]] = []
        self.comparisons: list[Callable[[Revision], None]] = []
        self.feeds: list[FeedNodes] = []
        own = RegisterNode(config.node, config.ipv4, config.ipv6, config.labels, config.pool, config.pool6)
        file = Path(config.state_directory) / MEMBERSHIP_FILE
        self.registration = Registration(bus, own, self.pool, file, self._on_registered)

    async def _on_registered(self, revision: Revision) -> None:
        gateways = self.pool.gateways
        await self._kernel.links.run(set_gateways, self._kernel.devices.host, [*filter(None, gateways)])
        self.gateways.write(number(gateway) for gateway in gateways if gateway)
        for listener in self.registered:
            listener(gateways)
        for compare in self.comparisons:
            compare(revision)

    def loops(self) -> dict[str, Loop]:
        """Return the loops of the tables and of the registration."""
        return {
            **{f"table {name}": table.run for name, table in self.tables.named().items()},
            "nodes": self._watch_nodes,
            "registration": self.registration.run,
            "blocks": self.registration.request_blocks,
        }

    async def _watch_nodes(self) -> None:
        async for changes in self.tables.nodes.changes():
            for change in changes:
                for feed in self.feeds:
                    feed(change.upserts, change.removes)
                self._look_at_own_row(change)

    def _look_at_own_row(self, change: Change[NodeName, Node]) -> None:
        own = self.registration.node
        row = change.upserts.get(own)
        if own in change.removes or (row is not None and not set(self.pool.blocks) <= set(row.pod_cidrs)):
            self.registration.row_went()

    def looks(self) -> dict[str, Look]:
        """Return the look at cilia_gateways."""
        return {"gateways": lambda: self.gateways.look(self._kernel.readers.run)}

    def close(self) -> None:
        """Give the map of gateways back."""
        self.gateways.close()

    def table_statuses(self) -> tuple[TableStatus, ...]:
        """Return how far the tables have been heard."""
        return tuple(_table_status(name, table) for name, table in self.tables.named().items())

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of the registration."""
        registration = self.registration
        yield LoopStatus(LoopName.REGISTRATION, 1, int(not registration.is_registered), 0, registration.last_error)

    def errors(self) -> Iterable[str]:
        """Return why the node is away from its cluster."""
        return "" if self.bus.connected else "the bus is away", self.registration.last_error

    def measure(self, metrics: Metrics) -> None:
        """Show counters of the bus and the tables, and the addresses that are left."""
        metrics.count("bus", self.bus.counters)
        for name, table in self.tables.named().items():
            metrics.count("table", table.counters, table=name)
        metrics.gauge("pod_addresses_free", "IPv4 addresses left for pods", lambda: self.pool.free(4))
        metrics.gauge("pod_addresses_ipv6_free", "IPv6 addresses left for pods", lambda: self.pool.free(6))


def _table_status(name: str, table: Any) -> TableStatus:
    shards = list(table.shards)
    return TableStatus(
        name=name,
        complete=table.complete,
        shards=len(shards),
        rows=sum(len(table.rows(shard)) for shard in shards),
        sequence=max((table.sequence(shard) for shard in shards), default=0),
        resyncs=table.counters.requests,
    )
