"""Flows that the programs remember: their sweeps and what those found."""

from cilia.abi import maps
from cilia.datapath.clock import CoarseClock
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.config import Config
from services.agent.conntrack.gc import Conntrack
from services.agent.kernel import Kernel
from services.agent.room import Entries, Room


class ConntrackRoom(Room):
    """cilia_ct4 and cilia_ct6."""

    def __init__(self, config: Config, kernel: Kernel) -> None:
        clock = CoarseClock(kernel.objects.program("read_clock"))
        self.gc = Conntrack(kernel.objects, config.timeouts, config.conntrack_sweep_seconds, clock.now)

    def loops(self) -> dict[str, Loop]:
        """Return the loop of sweeps."""
        return {"conntrack sweep": self.gc.run}

    def measure(self, metrics: Metrics) -> None:
        """Show counters and the flows that the latest sweep found."""
        metrics.count("conntrack", self.gc.counters)
        metrics.gauge("conntrack_flows", "flows found by the latest sweep", lambda: self.gc.flows)

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
