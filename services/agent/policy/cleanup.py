"""Cleanup of a change of policy: entries in force no more go once no program can still read them.

That takes a grace period of some 15 ms, during which the slots concerned are left alone, and all
others go on. What comes in meanwhile shares the next grace period.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from cilia.notify import Wakeup
from services.agent.policy.instructions import AwaitGracePeriod, DeleteEntries, Instruction
from services.agent.policy.maps import PolicyMaps


@dataclass(frozen=True, slots=True)
class _Cleanup:
    phases: tuple[tuple[Instruction, ...], ...]
    """Instructions; between two phases lies a grace period."""
    slots: frozenset[int]
    entries: int
    done: Callable[[], None]


class Cleanups:
    """Performs the second part of plans. ``run`` goes to the supervisor."""

    def __init__(self, maps: PolicyMaps, synchronize_rcu: Callable[[], Awaitable[None]]) -> None:
        self._maps = maps
        self._synchronize_rcu = synchronize_rcu
        self._pending: list[_Cleanup] = []
        self._wakeup = Wakeup()
        self.busy: set[int] = set()
        """Slots for which nothing may be planned yet."""
        self.entries = 0
        """Entries that still take room and will go."""

    def add(self, slots: Iterable[int], instructions: Sequence[Instruction], done: Callable[[], None]) -> None:
        """Take over what a plan left to do for ``slots``; ``done`` is called after it."""
        phases, slots = split_at_grace_periods(instructions), frozenset(slots)
        entries = sum(len(step.keys) for phase in phases for step in phase if isinstance(step, DeleteEntries))
        self.busy |= slots
        self.entries += entries
        self._pending.append(_Cleanup(phases, slots, entries, done))
        self._wakeup.set()

    async def run(self) -> None:
        """Clean up until cancelled; what is left then, the next agent finds."""
        while True:
            await self._wakeup.wait()
            batch, self._pending = self._pending, []
            for index, group in enumerate(zip_longest(*(each.phases for each in batch), fillvalue=())):
                if index:
                    await self._synchronize_rcu()
                for phase in group:
                    self._maps.perform(phase)
            for each in batch:
                self.busy -= each.slots
                self.entries -= each.entries
                each.done()


def split_at_grace_periods(instructions: Sequence[Instruction]) -> tuple[tuple[Instruction, ...], ...]:
    """Return the instructions before, between and after the grace periods."""
    phases: list[list[Instruction]] = [[]]
    for instruction in instructions:
        if isinstance(instruction, AwaitGracePeriod):
            phases.append([])
        else:
            phases[-1].append(instruction)
    return tuple(map(tuple, phases))
