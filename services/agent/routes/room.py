"""Routes to other nodes' pods: the kernel's table and the loops that keep it."""

from collections.abc import Iterable
from typing import Self

from cilia.contracts.agent import LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.config import Config, RoutingMode
from services.agent.kernel import Kernel
from services.agent.node.pool import Addresses
from services.agent.node.tables import Tables
from services.agent.room import Room
from services.agent.routes.desired import NativeWay, OverlayWay, Routes
from services.agent.routes.reconciler import RouteReconciler
from services.agent.routes.table import RouteTable


class RouteRoom(Room):
    """The node's routes to other nodes' pods."""

    def __init__(self, config: Config, kernel: Kernel, tables: Tables, table: RouteTable) -> None:
        self._table = table
        self._overlay = OverlayWay(kernel.devices.vxlan)
        way = NativeWay() if config.routing is RoutingMode.NATIVE else self._overlay
        routes = Routes(config.node, way)
        self.reconciler = RouteReconciler(routes, table, kernel.links, tables.nodes, config.routes_repair_seconds)

    @classmethod
    async def open(cls, config: Config, kernel: Kernel, tables: Tables) -> Self:
        """Open the table in the thread that writes it."""
        return cls(config, kernel, tables, await kernel.links.run(RouteTable))

    def registered(self, gateways: Addresses) -> None:
        """Have routes into the overlay that send from the gateways that the node got."""
        self._overlay.sources.update({4: gateways.ipv4, 6: gateways.ipv6})
        self.reconciler.renew()

    def loops(self) -> dict[str, Loop]:
        """Return the loops that write and repair."""
        return {"routes": self.reconciler.run, "route repair": self.reconciler.repair}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of the routes."""
        routes = self.reconciler
        yield LoopStatus("routes", routes.desired, routes.pending, routes.failures, routes.last_error)

    def errors(self) -> Iterable[str]:
        """Return why routes are missing."""
        return (self.reconciler.last_error,)

    def measure(self, metrics: Metrics) -> None:
        """Show how many routes there are and are not yet."""
        routes = self.reconciler
        metrics.gauge("routes", "routes to other nodes' pods", lambda: routes.desired)
        metrics.gauge("routes_pending", "routes to other nodes' pods not written yet", lambda: routes.pending)

    def close(self) -> None:
        """Give the socket back; routes stay."""
        self._table.close()
