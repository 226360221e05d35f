"""Masquerading: the CIDRs that it leaves alone, its ports, and the mappings of flows that ended."""

from collections.abc import Iterable

from cilia.abi import maps
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.datapath.clock import CoarseClock
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.address import cidr_of
from services.agent.config import Config
from services.agent.drift.loop import Look
from services.agent.drift.reconciled import ReconciledDrift
from services.agent.kernel import Kernel
from services.agent.loader.nat_ports import NatPortsWord
from services.agent.nat.desired import NonMasqueradeCidrs
from services.agent.nat.gc import NatGc
from services.agent.nat.maps import NonMasqueradeMap
from services.agent.nat.ports import NatPortRange
from services.agent.nat.reconciler import NonMasqueradeReconciler
from services.agent.node.tables import Tables
from services.agent.room import Entries, Room


class NatRoom(Room):
    """cilia_nat, cilia_nat_ports and cilia_non_masquerade."""

    def __init__(self, config: Config, kernel: Kernel, tables: Tables) -> None:
        clock = CoarseClock(kernel.objects.program("read_clock"))
        self._gc = NatGc(kernel.objects, config.conntrack_sweep_seconds, clock.now)
        self._ports = NatPortRange(NatPortsWord(kernel.objects), config.drift_seconds)
        self._map = NonMasqueradeMap(kernel.objects)
        cidrs = NonMasqueradeCidrs(config.masquerade_exclude)
        self.reconciler = NonMasqueradeReconciler(cidrs, self._map, tables.nodes.wait_complete)
        self._drift = ReconciledDrift(
            "non-masquerade CIDRs",
            self.reconciler,
            self._map.read,
            kernel.readers.run,
            describe=cidr_of,
            state=lambda _: "there",
        )

    def loops(self) -> dict[str, Loop]:
        """Return the loops of these maps."""
        return {
            "non-masquerade": self.reconciler.run,
            "non-masquerade prune": self.reconciler.prune,
            "nat sweep": self._gc.run,
            "nat ports": self._ports.run,
        }

    def looks(self) -> dict[str, Look]:
        """Return the look at cilia_non_masquerade."""
        return {"non-masquerade CIDRs": self._drift.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of cilia_non_masquerade."""
        cidrs = self.reconciler
        yield LoopStatus(LoopName.NON_MASQUERADE, cidrs.desired, cidrs.pending, cidrs.failures, cidrs.last_error)

    def errors(self) -> Iterable[str]:
        """Return why CIDRs are missing."""
        return (self.reconciler.last_error,)

    def measure(self, metrics: Metrics) -> None:
        """Show counters and entries of both maps."""
        gc, cidrs = self._gc, self.reconciler
        metrics.count("nat", gc.counters)
        metrics.gauge("nat_entries", "entries of cilia_nat found by the latest sweep", lambda: gc.entries)
        metrics.gauge("non_masquerade_entries", "entries of cilia_non_masquerade", lambda: cidrs.desired)

    def map_entries(self) -> Entries:
        """Return the entries that the latest sweep found."""
        return {maps.NAT.name: lambda: self._gc.entries, maps.NAT_TURNS.name: lambda: self._gc.mappings}

    def close(self) -> None:
        """Give the maps back."""
        self._gc.close()
        self._ports.close()
        self._map.close()
