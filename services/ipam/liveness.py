"""Liveness of nodes, pure: who is silent, for how long, and what follows from it.

A silent node becomes stale, which is only said. It is declared dead after much longer, and only by
silence that can't be ours. So its clock

- begins anew with each term of a leader, after a pause of this process and after the bus was away,
- stands while fewer than half of the nodes are heard.
"""

from collections.abc import Collection, Set
from dataclasses import dataclass, field
from typing import Final

from cilia.contracts.ids import NodeName

SWEEPS: Final = 10
"""Sweeps in the time after which a node is stale."""
PAUSE: Final = 1 / 3
"""Share of that time for which a sweep may be late; later, this process was paused."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Say that a node is silent."""

    node: NodeName
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Fresh:
    """Say that a node is heard again."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class Dead:
    """Remove a node."""

    node: NodeName
    silent_seconds: float


Step = Stale | Fresh | Dead


@dataclass(slots=True)
class Silence:
    """Silence of one node."""

    seconds: float = 0.0
    counted_seconds: float = 0.0
    """Part of it in which at least half of the nodes were heard."""
    was_heard: bool = False
    """The node was heard in this term."""


@dataclass(slots=True)
class Liveness:
    """Silence of each node in one term of a leader.

    Attributes:
        stale_seconds: Silence after which a node is stale.
        dead_seconds: Counted silence after which it is dead; 0: never.
    """

    stale_seconds: float
    dead_seconds: float
    _silences: dict[NodeName, Silence] = field(default_factory=dict)

    @property
    def sweep_seconds(self) -> float:
        """Time between two sweeps."""
        return self.stale_seconds / SWEEPS

    def hear(self, node: NodeName) -> None:
        """Take note of a heartbeat."""
        self._silences[node] = Silence(was_heard=True)

    def sweep(
        self, nodes: Collection[NodeName], stale: Set[NodeName], seconds: float, *, bus_answers: bool
    ) -> list[Step]:
        """Let time pass; return what is to be said or done.

        Args:
            nodes: All nodes that there are.
            stale: Those of which it is said already that they are silent.
            seconds: Time since the last sweep.
            bus_answers: The bus carried messages all the while.
        """
        if not bus_answers or seconds > self.sweep_seconds + self.stale_seconds * PAUSE:
            self._silences = {name: Silence(was_heard=each.was_heard) for name, each in self._silences.items()}
            seconds = 0.0
        self._silences = {name: self._silences.get(name) or Silence() for name in nodes}
        heard = sum(each.seconds < self.stale_seconds for each in self._silences.values())
        for each in self._silences.values():
            each.seconds += seconds
            each.counted_seconds += seconds if 2 * heard >= len(nodes) else 0.0
        return [step for name, each in self._silences.items() if (step := self._step(name, each, stale)) is not None]

    def _step(self, name: NodeName, silence: Silence, stale: Set[NodeName]) -> Step | None:
        if silence.seconds < self.stale_seconds:
            return Fresh(name) if name in stale and silence.was_heard else None
        if name not in stale:
            return Stale(name, silence.seconds)
        if self.dead_seconds and silence.counted_seconds >= self.dead_seconds:
            return Dead(name, silence.seconds)
        return None
