"""Policy of the local identities: its maps, the loops that keep it in force, and its drift."""

from collections.abc import Awaitable, Callable, Iterable

from cilia.abi import maps
from cilia.bus import Bus
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.contracts.ids import Identity
from cilia.datapath.rcu import synchronize_rcu
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.config import Config
from services.agent.drift.loop import Look
from services.agent.kernel import Kernel
from services.agent.node.tables import Tables
from services.agent.policy.acknowledgements import Acknowledgements
from services.agent.policy.drift import PolicyDrift
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.reconciler import PolicyReconciler
from services.agent.room import Entries, Room


class PolicyRoom(Room):
    """Room of cilia_policy, its slots and the word that switches them.

    Attributes:
        prepare_addresses: Has the ipcache ready for the first policy that is newer than what a
            former agent left; the ipcache, which needs policy itself, gives it.
    """

    prepare_addresses: Callable[[], Awaitable[None]]

    def __init__(
        self, config: Config, kernel: Kernel, bus: Bus, tables: Tables, count_endpoints: Callable[[Identity], int]
    ) -> None:
        self._maps = PolicyMaps(kernel.objects)
        acknowledgements = Acknowledgements(bus, config.node, count_endpoints, self._maps.capacity)
        self.reconciler = PolicyReconciler(
            self._maps,
            tables.resolved,
            acknowledge=acknowledgements.publish,
            synchronize_rcu=lambda: kernel.readers.run(synchronize_rcu),
        )
        self._drift = PolicyDrift(self._maps, self.reconciler, lambda: kernel.readers.run(self._maps.read_sets))

    def loops(self) -> dict[str, Loop]:
        """Return all loops."""
        return {
            "resolved": self.reconciler.watch,
            "policy": lambda: self.reconciler.run(self.prepare_addresses),
            "cleanup": self.reconciler.cleanups.run,
        }

    def looks(self) -> dict[str, Look]:
        """Return the look at the maps of policy."""
        return {"policy maps": self._drift.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return how many identities live here and whose policy finds no room."""
        policy = self.reconciler
        refused = next(map(str, policy.refused.values()), "")
        return (LoopStatus(LoopName.POLICY, policy.wanted, len(policy.refused), policy.counters.refused, refused),)

    def errors(self) -> Iterable[str]:
        """Return which policies find no room."""
        return map(str, self.reconciler.refused.values())

    def measure(self, metrics: Metrics) -> None:
        """Show counters and the room in cilia_policy."""
        policy = self.reconciler
        metrics.count("policy_reconciler", policy.counters)
        metrics.gauge("policy_entries", "entries of cilia_policy", lambda: policy.entries)
        metrics.gauge("policy_capacity_entries", "room in cilia_policy", lambda: policy.capacity)
        metrics.gauge("policy_refused", "identities whose policy finds no room", lambda: len(policy.refused))

    def map_entries(self) -> Entries:
        """Return the entries that the reconciler keeps count of."""
        policy = self.reconciler
        return {maps.POLICY.name: lambda: policy.entries, maps.POLICY_SLOTS.name: lambda: policy.slots_in_use}

    def close(self) -> None:
        """Give the maps back."""
        self._maps.close()
