"""Drift of the kernel from what the agent wrote: the loops that look for it, and their reports."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cilia.contracts.agent import LoopName, LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.drift.loop import DriftLoop, Look
from services.agent.drift.reporter import DriftReporter
from services.agent.room import Room


class LookGroup(NamedTuple):
    """Looks that follow each other, by the noun for what they read."""

    looks: Mapping[str, Look]
    seconds: float
    """Pause between two rounds of the group."""


class DriftRoom(Room):
    """Loops that look for drift, one for each group of looks: a long look delays no other group."""

    def __init__(self, reporter: DriftReporter, groups: Mapping[str, LookGroup]) -> None:
        self._reporter = reporter
        self._loops = {name: DriftLoop(group.looks, reporter, seconds=group.seconds) for name, group in groups.items()}

    def loops(self) -> dict[str, Loop]:
        """Return the loops that look, and the one that publishes reports."""
        loops: dict[str, Loop] = {f"{group} drift": loop.run for group, loop in self._loops.items()}
        return loops | {"drift reports": self._reporter.run}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the number of looks, and the latest difference."""
        counters = self._reporter.counters
        yield LoopStatus(LoopName.DRIFT, counters.looks, 0, counters.foreign, self._reporter.last)

    def measure(self, metrics: Metrics) -> None:
        """Show the counters of drift."""
        metrics.count("drift", self._reporter.counters)
