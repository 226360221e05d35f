"""Routes to other nodes' pods: the kernel's table and the loops that keep it."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Self

from cilia.contracts.agent import LoopName, LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.config import Config, RoutingMode
from services.agent.drift.loop import Look
from services.agent.kernel import Kernel
from services.agent.node.pool import Addresses
from services.agent.node.tables import Tables
from services.agent.room import Room
from services.agent.routes.reconciler import RouteReconciler, open_routes


class RouteRoom(Room):
    """Routes of the node to other nodes' pods."""

    def __init__(self, reconciler: RouteReconciler) -> None:
        self.reconciler = reconciler

    @classmethod
    async def open(cls, config: Config, kernel: Kernel, tables: Tables, stack: AsyncExitStack) -> Self:
        """Open the table in the thread that writes it.

        Args:
            stack: Closes it in the same thread.
        """
        routes = open_routes(
            config.node,
            None if config.routing is RoutingMode.NATIVE else kernel.devices.vxlan,
            kernel.links,
            own={4: config.ipv4, 6: config.ipv6},
            nodes_complete=tables.nodes.wait_complete,
        )
        return cls(await stack.enter_async_context(routes))

    def registered(self, gateways: Addresses) -> None:
        """Have routes into the overlay that send from the gateways that the node got."""
        self.reconciler.register({4: gateways.ipv4, 6: gateways.ipv6})

    def loops(self) -> dict[str, Loop]:
        """Return the loops that write and prune."""
        return {"routes": self.reconciler.run, "routes prune": self.reconciler.prune}

    def looks(self) -> dict[str, Look]:
        """Return the look at the kernel's routes."""
        return {"routes": self.reconciler.drift.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of the routes."""
        routes = self.reconciler
        yield LoopStatus(LoopName.ROUTES, routes.desired, routes.pending, routes.failures, routes.last_error)

    def errors(self) -> Iterable[str]:
        """Return why routes are missing."""
        return (self.reconciler.last_error,)

    def measure(self, metrics: Metrics) -> None:
        """Show how many routes there are and are not yet."""
        routes = self.reconciler
        metrics.gauge("routes", "routes to other nodes' pods", lambda: routes.desired)
        metrics.gauge("routes_pending", "routes to other nodes' pods not written yet", lambda: routes.pending)
