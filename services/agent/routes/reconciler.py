"""Reconciler of routes: the table of nodes into the kernel's routes to other nodes' pods.

After a restart the routes of a former agent stay until the node is registered and the table is
complete, then what it doesn't name goes. The look for drift reads the kernel's routes again, since
a link that went down has taken its routes along without a word.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from cilia.backoff import Backoff
from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.reconcile.plan import Plan
from cilia.reconcile.reconciler import Reconciler, Target
from services.agent.drift.reconciled import ReconciledDrift
from services.agent.netlink.worker import Worker
from services.agent.routes.desired import NativeWay, Network, OverlayWay, Route, Routes
from services.agent.routes.table import RouteTable, is_as_wanted

BATCH: Final = 512
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5.0


class Table(Target[Network, Route], Protocol):
    """Kernel table of routes, such as :class:`~services.agent.routes.table.RouteTable`."""

    def read(self) -> dict[Network, Route]:
        """Return the routes of our protocol number."""
        ...


class RouteReconciler(Reconciler[Network, Route]):
    """Keeps the routes as desired.

    ``run`` and ``prune`` go to the supervisor, the table of nodes to ``feed``.

    Args:
        sources: Source addresses of the node's own packets, by IP version, as the way of ``routes``
            reads them.
        applied: Routes that the table holds at the start.
        in_thread: Runs a function of the table in its thread.
    """

    def __init__(
        self,
        routes: Routes,
        sources: dict[int, str],
        table: Table,
        applied: dict[Network, Route],
        in_thread: Callable[..., Awaitable[Any]],
        *,
        nodes_complete: Callable[[], Awaitable[None]],
    ) -> None:
        plan = Plan(
            routes.desired,
            applied,
            new_backoff=lambda: Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS),
            matches=is_as_wanted,
        )
        super().__init__(
            "route",
            plan,
            table,
            routes.take_changes,
            batch=BATCH,
            wait_complete=self._wait_complete_routes,
            describe="to {}".format,
            in_thread=in_thread,
        )
        self._nodes_complete = nodes_complete
        self._routes = routes
        self._sources = sources
        self._registered = asyncio.Event()
        self.drift = ReconciledDrift(
            "routes", self, table.read, in_thread, describe="the route to {}".format, state=_in_words
        )

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        self._routes.feed(upserts, removes)
        self.wake()

    def register(self, sources: Mapping[int, str]) -> None:
        """Note that the node is registered, and the source addresses of its own packets to pods."""
        self._sources.update(sources)
        self._routes.renew()
        self._registered.set()
        self.wake()

    async def _wait_complete_routes(self) -> None:
        await self._registered.wait()  # before, routes that need a source are not desired
        await self._nodes_complete()


@asynccontextmanager
async def open_routes(
    node: NodeName,
    vxlan_ifindex: int | None,
    worker: Worker,
    *,
    own: Mapping[int, str],
    nodes_complete: Callable[[], Awaitable[None]],
) -> AsyncIterator[RouteReconciler]:
    """Open the node's routes, in the worker's thread and network namespace; they stay afterwards.

    Args:
        vxlan_ifindex: Device into which routes lead; None: they lead to other nodes' own addresses.
        own: This node's own address by IP version; empty: it has none.
    """
    sources: dict[int, str] = {}
    way = NativeWay(own) if vxlan_ifindex is None else OverlayWay(vxlan_ifindex, sources)
    table = await worker.run(RouteTable)
    try:
        applied = await worker.run(table.read)
        routes = Routes(node, way)
        yield RouteReconciler(routes, sources, table, applied, worker.run, nodes_complete=nodes_complete)
    finally:
        await worker.run(table.close)


def _in_words(route: Route) -> str:
    """Return a route as iproute2 writes it."""
    parts = {"via": route.gateway, "dev": route.device, "src": route.source}
    return " ".join(f"{word} {value}" for word, value in parts.items() if value)
