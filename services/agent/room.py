"""Room: a part of the agent that builds itself, runs its own loops and tells of itself.

A room is one package below services.agent, about one kind of kernel object or one side of the
agent. ``__main__`` opens the rooms in order and joins what they give: loops for the supervisor,
statuses and errors for the API, gauges for the metrics.
"""

from collections.abc import Callable, Iterable, Mapping

from cilia.contracts.agent import LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics

Entries = Mapping[str, Callable[[], int]]
"""Map -> its present entries, for maps whose entries a room knows without counting."""


class Room:
    """Base of the rooms; one that has nothing to give inherits that."""

    def loops(self) -> Mapping[str, Loop]:
        """Return the loops to supervise, by name."""
        return {}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return what its reconcilers want and what failed."""
        return ()

    def errors(self) -> Iterable[str]:
        """Return why it can't do all of its work; empty texts count for nothing."""
        return ()

    def measure(self, metrics: Metrics) -> None:
        """Show its counters and gauges."""

    def map_entries(self) -> Entries:
        """Return how full its maps are."""
        return {}

    def close(self) -> None:
        """Give maps, sockets and memory back; what is in the kernel stays."""
