"""Drift of the kernel from what ought to be in it: reports of all rooms, and the programs' own drift."""

from collections.abc import Iterable

from cilia.contracts.agent import LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.metrics.drift import DriftReports
from services.agent.room import Room


class DriftRoom(Room):
    """Reports of drift, for log, metrics, status and bus."""

    def __init__(self, reports: DriftReports, programs: Loop) -> None:
        """Take the loop that repairs the programs along: it belongs to no other room."""
        self._reports = reports
        self._programs = programs

    def loops(self) -> dict[str, Loop]:
        """Return the loop of the programs, and the one that tells the bus."""
        return {"program drift": self._programs, "drift reports": self._reports.run}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return how often the kernel was looked at, and what was found last."""
        counters = self._reports.counters
        yield LoopStatus("audit", counters.looks, 0, counters.foreign, self._reports.last)

    def measure(self, metrics: Metrics) -> None:
        """Show the counters of drift."""
        metrics.count("audit", self._reports.counters)
