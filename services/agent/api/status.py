"""What the agent says of itself: whether it can do its work, what waits, what it counted."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from cilia.bus import Bus
from cilia.contracts.agent import AgentState, AgentStatus, LoopStatus, TableStatus
from cilia.metrics import Metrics
from services.agent.config import Config
from services.agent.conntrack.gc import Conntrack
from services.agent.drift.reporter import DriftReporter
from services.agent.endpoint.lifecycle import EndpointLifecycle
from services.agent.endpoint.pool import AddressPool
from services.agent.endpoint.publication import Publication
from services.agent.endpoint.store import Endpoints
from services.agent.flows.events import Flows
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.nat.gc import NatGc
from services.agent.nat.reconciler import NonMasqueradeReconciler
from services.agent.node.registration import Registration
from services.agent.node.tables import Tables
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.routes.reconciler import RouteReconciler

VERSION = "0.1.0"
STARTING_SECONDS = 10.0
"""For so long a missing answer of a service counts as a start, after that as a degradation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Looks at the agent's parts; changes none."""

    config: Config
    bus: Bus
    tables: Tables
    endpoints: Endpoints
    pool: AddressPool
    registration: Registration
    publication: Publication
    connections: EndpointLifecycle
    locations: IpcacheReconciler
    routing: RouteReconciler
    non_masquerade: NonMasqueradeReconciler
    realiser: PolicyReconciler
    conntrack: Conntrack
    mappings: NatGc
    flows: Flows
    drift: DriftReporter
    missing_features: tuple[str, ...]
    started: float = field(default_factory=time.monotonic)

    def degraded(self) -> str:
        """Return why the agent can't do all of its work, or an empty text."""
        refusals = map(str, self.realiser.refused.values())
        bus = "" if self.bus.connected else "the bus is away"
        reasons = (bus, self.registration.last_error, *self._kernel_errors(), *refusals)
        return "; ".join(reason for reason in reasons if reason)

    def _kernel_errors(self) -> tuple[str, ...]:
        return self.locations.last_error, self.routing.last_error, self.non_masquerade.last_error

    def status(self) -> AgentStatus:
        """Return all of it."""
        ready = sum(not pod.disconnecting and self.realiser.in_force(pod.identity) for pod in self.endpoints)
        uptime = time.monotonic() - self.started
        return AgentStatus(
            node=self.config.node,
            state=self._state(uptime),
            version=VERSION,
            pid=os.getpid(),
            uptime_seconds=round(uptime, 3),
            ipv4=self.config.ipv4,
            pod_cidrs=self.pool.blocks,
            endpoints=len(self.endpoints),
            endpoints_ready=ready,
            rss_bytes=rss_bytes(),
            bus_connected=self.bus.connected,
            tables=self._tables(),
            loops=self._loops(),
            missing_features=self.missing_features,
            ipv6=self.config.ipv6,
        )

    def measure(self, metrics: Metrics) -> None:
        """Show the parts' counters and gauges."""
        metrics.count("bus", self.bus.counters)
        metrics.count("realiser", self.realiser.counters)
        metrics.count("drift", self.drift.counters)
        metrics.count("flows", self.flows.counters)
        metrics.count("conntrack", self.conntrack.counters)
        metrics.count("nat", self.mappings.counters)
        for name, table in self.tables.named().items():
            metrics.count("table", table.counters, table=name)
        for name, text, read in (
            ("endpoints", "local endpoints", lambda: len(self.endpoints)),
            ("pod_addresses_free", "IPv4 addresses left for pods", lambda: self.pool.free(4)),
            ("pod_addresses_ipv6_free", "IPv6 addresses left for pods", lambda: self.pool.free(6)),
            ("conntrack_flows", "flows found by the latest sweep", lambda: self.conntrack.flows),
            ("ipcache_entries", "entries of cilia_ipcache", lambda: self.locations.desired),
            ("ipcache_pending", "entries of cilia_ipcache that wait", lambda: self.locations.pending),
            ("routes", "routes to other nodes' pods", lambda: self.routing.desired),
            ("routes_pending", "routes to other nodes' pods that wait", lambda: self.routing.pending),
            ("nat_entries", "entries of cilia_nat found by the latest sweep", lambda: self.mappings.entries),
            ("non_masquerade_entries", "entries of cilia_non_masquerade", lambda: self.non_masquerade.desired),
            ("policy_entries", "entries of cilia_policy", lambda: self.realiser.entries),
            ("policy_capacity_entries", "room in cilia_policy", lambda: self.realiser.capacity),
            ("policy_refused", "subjects whose policy finds no room", lambda: len(self.realiser.refused)),
            ("resident_memory_bytes", "resident memory", rss_bytes),
        ):
            metrics.gauge(name, text, read)

    def _state(self, uptime: float) -> AgentState:
        reason = self.degraded()
        if uptime < STARTING_SECONDS and (reason or not all(each.complete for each in self.tables.named().values())):
            return AgentState.STARTING
        return AgentState.DEGRADED if reason else AgentState.READY

    def _tables(self) -> tuple[TableStatus, ...]:
        statuses = []
        for name, table in self.tables.named().items():
            shards = list(table.shards)
            statuses.append(
                TableStatus(
                    name=name,
                    complete=table.complete,
                    shards=len(shards),
                    rows=sum(len(table.rows(shard)) for shard in shards),
                    sequence=max((table.sequence(shard) for shard in shards), default=0),
                    resyncs=table.counters.requests,
                )
            )
        return tuple(statuses)

    def _loops(self) -> tuple[LoopStatus, ...]:
        locations, realiser, registration = self.locations, self.realiser, self.registration
        routing, kept, drift = self.routing, self.non_masquerade, self.drift
        refused = next(map(str, realiser.refused.values()), "")
        waiting = self.connections.unpublished + self.publication.pending
        return (
            LoopStatus("ipcache", locations.desired, locations.pending, locations.failures, locations.last_error),
            LoopStatus("routes", routing.desired, routing.pending, routing.failures, routing.last_error),
            LoopStatus("non-masquerade", kept.desired, kept.pending, kept.failures, kept.last_error),
            LoopStatus("policy", realiser.wanted, len(realiser.refused), realiser.counters.refused, refused),
            LoopStatus("drift", drift.counters.looks, 0, drift.counters.foreign, drift.last),
            LoopStatus("rows", len(self.endpoints), waiting, 0),
            LoopStatus("registration", 1, int(not registration.standing), 0, registration.last_error),
        )


def rss_bytes() -> int:
    """Return the memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
