"""Flows that the programs remember: their sweeps and what those found."""

from collections.abc import Iterable

from cilia.abi import maps
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.datapath.clock import CoarseClock
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.config import Config
from services.agent.conntrack.gc import Conntrack
from services.agent.conntrack.quota import FlowQuota, endpoint_of
from services.agent.kernel import Kernel
from services.agent.room import Entries, Room


class ConntrackRoom(Room):
    """cilia_ct4 and cilia_ct6."""

    def __init__(self, config: Config, kernel: Kernel) -> None:
        clock = CoarseClock(kernel.objects.program("read_clock"))
        sweep_seconds = config.conntrack_sweep_seconds
        self.quota = FlowQuota(kernel.objects, share=config.maps.flow_share, sweep_seconds=sweep_seconds)
        self.gc = Conntrack(kernel.objects, self.quota, config.timeouts, sweep_seconds, clock.now)

    def loops(self) -> dict[str, Loop]:
        """Return the loop of sweeps."""
        return {"conntrack sweep": self.gc.run}

    def measure(self, metrics: Metrics) -> None:
        """Show counters and the flows that the latest sweep found."""
        metrics.count("conntrack", self.gc.counters)
        metrics.gauge("conntrack_flows", "flows found by the latest sweep", lambda: self.gc.flows)
        metrics.gauge(
            "conntrack_crowded_shares",
            "shares of flows, by endpoint, family and direction, that are taken",
            lambda: len(self.quota.crowded),
        )

    def statuses(self) -> Iterable[LoopStatus]:
        """Return which endpoints hold their share of the flows."""
        endpoints = sorted(set(map(endpoint_of, self.quota.crowded)))
        yield LoopStatus(
            LoopName.FLOW_QUOTA, self.gc.flows, len(endpoints), 0, ", ".join(f"endpoint {each}" for each in endpoints)
        )

    def map_entries(self) -> Entries:
        """Return the flows that the latest sweep found."""
        found = self.gc.found
        return {
            maps.CT4.name: lambda: found[maps.CT4.name],
            maps.CT6.name: lambda: found[maps.CT6.name],
        }

    def close(self) -> None:
        """Give the maps back."""
        self.gc.close()
        self.quota.close()
