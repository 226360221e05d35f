"""Endpoints of the node: their records, links and rows, and the calls that change them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from cilia.contracts.agent import LoopName, LoopStatus
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.address import number
from services.agent.config import Config
from services.agent.drift.loop import Look
from services.agent.endpoint.drift import EndpointDrift, LinkDrift
from services.agent.endpoint.lifecycle import EndpointLifecycle
from services.agent.endpoint.maps import EndpointMap
from services.agent.endpoint.parts import Parts, WorkerLinks
from services.agent.endpoint.publication import Publication
from services.agent.endpoint.republication import OwnRows, Republication
from services.agent.endpoint.restore import restore
from services.agent.endpoint.store import Endpoints, PodFiles
from services.agent.endpoint.veth import PodLinks
from services.agent.ipcache.room import IpcacheRoom
from services.agent.kernel import Kernel
from services.agent.node.room import NodeRoom
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.room import Room


class PodStore:
    """Records of the node's pods, and the pods in memory; opened before all that knows pods."""

    def __init__(self, config: Config) -> None:
        self.records = PodFiles(Path(config.state_directory) / "endpoints")
        self.endpoints = Endpoints(self.records.load())

    def gateways(self) -> set[int]:
        """Return the gateways that pods have, as the maps have addresses."""
        return {number(gateway) for pod in self.endpoints for _, gateway in pod.gateways}

    def count(self, identity: Identity) -> int:
        """Return how many pods have an identity."""
        return len(self.endpoints.with_identity(identity))


class EndpointRoom(Room):
    """The node's endpoints."""

    def __init__(
        self,
        store: PodStore,
        policy: PolicyReconciler,
        lifecycle: EndpointLifecycle,
        links: PodLinks,
        rows: Publication,
        table: EndpointMap,
        drift: EndpointDrift,
        republication: Republication,
    ) -> None:
        self.endpoints = store.endpoints
        self._table = table
        self._drift = drift
        self._policy = policy
        self._links = links
        self._rows = rows
        self.lifecycle = lifecycle
        self._republication = republication
        self._link_drift = LinkDrift(store.endpoints, lifecycle.recover)

    @classmethod
    async def open(
        cls,
        config: Config,
        kernel: Kernel,
        store: PodStore,
        node: NodeRoom,
        policy: PolicyReconciler,
        ipcache: IpcacheRoom,
        purge_flows: Callable[[int], None],
    ) -> Self:
        """Open the links in the thread that makes them, and bring kernel and records together.

        Args:
            purge_flows: Forgets the flows of an address.
        """
        with ExitStack() as opened:
            links = await kernel.links.run(PodLinks, kernel.blocks)
            opened.callback(links.close)
            table = EndpointMap(kernel.objects, ipcache.revisions)
            opened.callback(table.close)
            rows = Publication(node.bus, config.node)
            parts = Parts(
                endpoints=store.endpoints,
                records=store.records,
                pool=node.pool,
                links=WorkerLinks(links, kernel.links),
                table=table,
                ipcache=ipcache.reconciler,
                policy=policy,
                publisher=rows,
                registrar=node.registration,
                renew_flows=table.renew,
                purge_flows=purge_flows,
                mtu_bytes=kernel.devices.mtu_bytes,
            )
            drift = EndpointDrift(table, kernel.readers.run)
            lifecycle = EndpointLifecycle(parts)
            own_rows = OwnRows(node.tables.endpoints, config.node)
            republication = Republication(parts, lifecycle, own_rows, config.node)
            room = cls(store, policy, lifecycle, links, rows, table, drift, republication)
            gateways = store.gateways()
            node.gateways.write(gateways)
            ipcache.reconciler.set_hosts(gateways)
            await restore(parts, lifecycle)
            opened.pop_all()
        return room

    def compare(self, revision: Revision) -> None:
        """Have rows compared with pods, as of a registration."""
        self._republication.compare(revision)

    def unaware(self, identity: Identity) -> tuple[NodeName, ...] | None:
        """Return the nodes that didn't have an identity in force in time; None: all had."""
        return self._rows.unaware.get(identity)

    def ready(self) -> int:
        """Return how many endpoints have policy in force."""
        return sum(not pod.disconnecting and self._policy.in_force(pod.identity) for pod in self.endpoints)

    def loops(self) -> dict[str, Loop]:
        """Return the loops of rows."""
        return {"withdrawals": self._rows.run, "publications": self._republication.run}

    def looks(self) -> dict[str, Look]:
        """Return the looks at cilia_endpoints and at links."""
        return {"endpoints": self._drift.look, "links of endpoints": self._link_drift.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return how many rows there are, and how many are still to be written or withdrawn."""
        pending = self._republication.pending + self._rows.pending
        yield LoopStatus(LoopName.ROWS, len(self.endpoints), pending, 0)

    def measure(self, metrics: Metrics) -> None:
        """Show how many endpoints there are."""
        metrics.gauge("endpoints", "local endpoints", lambda: len(self.endpoints))

    def close(self) -> None:
        """Give the map and the sockets of links back; links stay."""
        self._table.close()
        self._links.close()
