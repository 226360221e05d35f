"""Status of the agent: whether it can do its work, what is pending, what it counted."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cilia.contracts.agent import AgentState, AgentStatus, TableStatus
from cilia.metrics import Metrics
from services.agent.config import Config
from services.agent.endpoint.room import EndpointRoom
from services.agent.node.room import NodeRoom
from services.agent.room import Room

VERSION: Final = "0.1.0"
STARTING_SECONDS: Final = 10.0
"""Time for which a missing answer of a service counts as a start; after that, as a degradation."""


class Status:
    """Collector of what the rooms say of themselves; it changes none.

    Args:
        missing_features: Kernel features that the agent does without.
        defences_off: Defences that the kernel has no means for.
    """

    def __init__(
        self,
        config: Config,
        node: NodeRoom,
        endpoints: EndpointRoom,
        rooms: Sequence[Room],
        *,
        missing_features: tuple[str, ...],
        defences_off: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._node = node
        self._endpoints = endpoints
        self._rooms = rooms
        self._missing_features = missing_features
        self._defences_off = defences_off
        self._clock = clock
        self._started = clock()

    def degraded(self) -> str:
        """Return why the agent can't do all of its work, or an empty text."""
        return "; ".join(error for room in self._rooms for error in room.errors() if error)

    def status(self) -> AgentStatus:
        """Return all of it."""
        uptime = self._clock() - self._started
        tables = self._node.table_statuses()
        return AgentStatus(
            node=self._config.node,
            state=state_of(self.degraded(), uptime, tables),
            version=VERSION,
            pid=os.getpid(),
            uptime_seconds=round(uptime, 3),
            ipv4=self._config.ipv4,
            pod_cidrs=self._node.pool.blocks,
            endpoints=len(self._endpoints.endpoints),
            endpoints_ready=self._endpoints.ready(),
            rss_bytes=rss_bytes(),
            bus_connected=self._node.bus.connected,
            tables=tables,
            loops=tuple(loop for room in self._rooms for loop in room.statuses()),
            missing_features=self._missing_features,
            defences_off=self._defences_off,
            ipv6=self._config.ipv6,
        )

    def measure(self, metrics: Metrics) -> None:
        """Show the rooms' counters and gauges, and the memory of the process."""
        for room in self._rooms:
            room.measure(metrics)
        metrics.gauge("resident_memory_bytes", "resident memory", rss_bytes)


def state_of(degraded: str, uptime_seconds: float, tables: Sequence[TableStatus]) -> AgentState:
    """Return the agent's state.

    Args:
        degraded: Why it can't do all of its work, or an empty text.
    """
    is_young = uptime_seconds < STARTING_SECONDS
    if is_young and (degraded or not all(table.complete for table in tables)):
        return AgentState.STARTING
    return AgentState.DEGRADED if degraded else AgentState.READY


def rss_bytes() -> int:
    """Return the memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
