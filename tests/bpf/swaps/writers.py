"""Ways to replace a set of policies in the kernel: the agent's, and two that people take who don't
know better.
"""

from collections.abc import Callable, Sequence

from cilia.contracts.ids import Identity
from cilia.datapath.rcu import synchronize_rcu
from services.agent.policy.cleanup import split_at_grace_periods
from services.agent.policy.instructions import (
    UNREALISED,
    DeleteEntries,
    Instruction,
    PutEntries,
    RealisedPolicy,
    StoreVersion,
    Version,
    shapes_of,
)
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.plan import Change, plan
from tests.bpf.swaps.arena import States

Writer = Callable[[PolicyMaps, dict[int, RealisedPolicy], States], None]
"""Brings states into force, and notes what the kernel holds then."""


def write_as_the_agent(maps: PolicyMaps, held: dict[int, RealisedPolicy], states: States) -> None:
    """Switch all subjects by one store, and clean up once no program reads the former entries."""
    _switch(maps, held, states)


def write_one_subject_after_the_other(maps: PolicyMaps, held: dict[int, RealisedPolicy], states: States) -> None:
    """Switch each subject by a store of its own."""
    for slot, entries in states.items():
        _switch(maps, held, {slot: entries})


def rewrite_in_place(maps: PolicyMaps, held: dict[int, RealisedPolicy], states: States) -> None:
    """Remove what is no more wanted and write what is, in the set in force, as if nobody looked."""
    for slot, entries in states.items():
        before = held.get(slot, UNREALISED)
        version = Version(before.version.revision + 1, before.version.set, shapes_of((*before.entries, *entries)))
        steps: list[Instruction] = [
            DeleteEntries(slot, version.set, frozenset(before.entries.keys() - entries.keys())),
            PutEntries(slot, version.set, entries),
            StoreVersion(slot, version),
        ]
        maps.perform(steps)
        held[slot] = RealisedPolicy(version, entries)
    synchronize_rcu()  # as long as the agent takes, so that as many packets pass


def _switch(maps: PolicyMaps, held: dict[int, RealisedPolicy], states: States) -> None:
    changes = [Change(slot, Identity(slot), held.get(slot, UNREALISED), entries) for slot, entries in states.items()]
    steps = plan(changes, policy_epoch=maps.policy_epoch, free=maps.capacity)
    maps.perform(steps.visible)
    held.update(steps.after)
    _clean_up(maps, steps.cleanup)


def _clean_up(maps: PolicyMaps, instructions: Sequence[Instruction]) -> None:
    for number, phase in enumerate(split_at_grace_periods(instructions)):
        if number:
            synchronize_rcu()
        maps.perform(phase)
