"""The loop of routes: the table of nodes into the kernel's routes to other nodes' pods.

What changed is written in batches; nothing is read again for it. After a restart the routes of a
former agent stay until the table is complete, then what it doesn't name goes. Now and then the
kernel's routes are compared with the desired ones, since a link that went down has taken its routes
along without a word.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.table.subscriber import TableSubscriber
from services.agent.netlink.worker import Worker
from services.agent.routes.desired import Network, Route, Routes
from services.agent.routes.table import RouteTable, is_as_wanted

log = logging.getLogger(__name__)

BATCH: Final = 512
RETRY_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 1.0


class RouteReconciler:
    """Keeps the routes as desired.

    ``run`` and ``repair`` go to the supervisor, the table of nodes to ``feed``.
    """

    def __init__(
        self,
        routes: Routes,
        table: RouteTable,
        worker: Worker,
        nodes: TableSubscriber[NodeName, Node],
        repair_seconds: float,
    ) -> None:
        self._routes = routes
        self._table = table
        self._worker = worker
        self._nodes = nodes
        self._repair_seconds = repair_seconds
        self._pending: dict[Network, Route | None] = {}
        self._refused: dict[Network, str] = {}
        self._touched: set[Network] = set()
        """Written since the kernel's routes were last read."""
        self._wake = asyncio.Event()
        self._registered = asyncio.Event()
        self.failures = 0
        self.repaired = 0

    @property
    def desired(self) -> int:
        """Routes that shall be."""
        return len(self._routes.desired)

    @property
    def pending(self) -> int:
        """Routes that are not written yet, or that the kernel refused."""
        return len(self._pending) + len(self._refused)

    @property
    def last_error(self) -> str:
        """Why routes are missing; empty if none is."""
        if not self._refused:
            return ""
        network, reason = next(iter(self._refused.items()))
        others = f" (and {len(self._refused) - 1} more)" if len(self._refused) > 1 else ""
        return f"route to {network}{others}: {reason}"

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        self._routes.feed(upserts, removes)
        self._wake.set()

    def renew(self) -> None:
        """Note that the node is registered, and have all routes computed anew: the way may have
        learned something.
        """
        self._routes.renew()
        self._registered.set()
        self._wake.set()

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await self._wait()
            self._take()
            while self._pending:
                await self._write(dict(islice(self._pending.items(), BATCH)))
                self._take()

    async def repair(self) -> None:
        """Once all is known, and then now and then, mend what the kernel has otherwise; until
        cancelled.
        """
        await self._registered.wait()
        await self._nodes.wait_complete()
        await asyncio.sleep(LINGER_SECONDS)
        while True:
            self._touched.clear()
            self._compare(await self._worker.run(self._table.read))
            await asyncio.sleep(self._repair_seconds)

    async def _wait(self) -> None:
        """Wait for a change; when routes were refused, try them again after a while."""
        try:
            async with asyncio.timeout(RETRY_SECONDS if self._refused else None):
                await self._wake.wait()
        except TimeoutError:
            self._pending = dict.fromkeys(self._refused) | self._pending
            self._pending = {network: self._routes.desired.get(network) for network in self._pending}
        self._wake.clear()

    def _take(self) -> None:
        self._pending.update(self._routes.take_changes())

    async def _write(self, some: dict[Network, Route | None]) -> None:
        self._touched.update(some)
        for network in some:
            del self._pending[network]
            self._refused.pop(network, None)
        refused = await self._worker.run(self._table.write, some)
        if refused:
            self.failures += len(refused)
            self._refused.update(refused)
            log.warning("%s", self.last_error)

    def _compare(self, present: Mapping[Network, Route]) -> None:
        self._take()
        desired = self._routes.desired
        settled = (present.keys() | desired.keys()) - self._pending.keys() - self._refused.keys() - self._touched
        wrong = {
            network: desired.get(network)
            for network in settled
            if not is_as_wanted(present.get(network), desired.get(network))
        }
        if wrong:
            self.repaired += len(wrong)
            self._pending.update(wrong)
            self._wake.set()
            log.info("routes mended", extra={"routes": len(wrong)})
