"""Flows of the node: events read, named, published, and aggregated for the recorder."""

from cilia.abi.maps import EVENTS
from cilia.abi.structs import EVENT
from cilia.contracts.agent import LoopStatus
from cilia.datapath.ring import RingBuffer
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.config import Config
from services.agent.endpoint.store import Endpoints
from services.agent.flows.aggregation import DistinctFlows
from services.agent.flows.export import FlowExport
from services.agent.flows.lookups import PodLookup, PolicyNames
from services.agent.flows.reader import DRAIN, EventReader, Unreported
from services.agent.ipcache.desired import Ipcache
from services.agent.kernel import Kernel
from services.agent.node.room import NodeRoom
from services.agent.room import Room


class FlowRoom(Room):
    """The ring of events and what becomes of them."""

    def __init__(self, config: Config, kernel: Kernel, node: NodeRoom, endpoints: Endpoints, ipcache: Ipcache) -> None:
        ring_fd = kernel.objects.map_fd(EVENTS.name)
        self._ring = RingBuffer(ring_fd, record_size=EVENT.size, limit=DRAIN, name=EVENTS.name)
        self._policies = PolicyNames(node.tables.policies)
        lookup = PodLookup(endpoints, ipcache, node.tables.endpoints)
        self._distinct = DistinctFlows(config.distinct_flows, lookup.named_ports)
        self._export = FlowExport(node.bus, config.node, self._distinct)
        self._reader = EventReader(
            self._ring,
            node.bus,
            config.node,
            lookup.names(self._policies),
            Unreported(kernel.packets.lost_events, kernel.packets.limited_events),
            publish=config.flows,
            aggregate=self._distinct.add if config.distinct_flows else None,
        )

    def loops(self) -> dict[str, Loop]:
        """Return the loops that read events and export flows."""
        return {"policy names": self._policies.watch, "flows": self._reader.run, "flow export": self._export.run}

    def statuses(self) -> tuple[LoopStatus]:
        """Return how many events were not shown, and why."""
        return (self._reader.status(),)

    def measure(self, metrics: Metrics) -> None:
        """Show counters of events and of distinct flows."""
        metrics.count("flows", self._reader.counters)
        metrics.count("distinct_flows", self._distinct.counters)
        text = "distinct flows that the agent remembers"
        metrics.gauge("distinct_flows", text, lambda: len(self._distinct))

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()
