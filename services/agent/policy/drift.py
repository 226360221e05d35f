"""Drift of the policy maps: entries and slots that are not as the reconciler wrote them.

Entries are read in a worker thread; slots that change by ourselves meanwhile are left to the next
look.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.errors import MapFull
from services.agent.drift.reporter import Drift
from services.agent.policy.instructions import (
    UNREALISED,
    ClearNextVersion,
    DeleteEntries,
    Instruction,
    PutEntries,
    RealisedPolicy,
    StoreIdentity,
    StoreVersion,
)
from services.agent.policy.maps import PolicyMaps, PolicySlot, Sets
from services.agent.policy.reconciler import PolicyReconciler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repair:
    """Instructions that make a slot right again, and in words what was wrong with it."""

    realised: RealisedPolicy
    instructions: tuple[Instruction, ...]
    differences: tuple[str, ...]


class PolicyDrift:
    """Looks at the policy maps, and mends what differs.

    Args:
        read: Returns the entries in the kernel, without blocking the loop.
    """

    def __init__(self, maps: PolicyMaps, reconciler: PolicyReconciler, read: Callable[[], Awaitable[Sets]]) -> None:
        self._maps = maps
        self._reconciler = reconciler
        self._read = read

    async def look(self) -> list[Drift]:
        """Compare once; return what was wrong, by slot."""
        reconciler = self._reconciler
        before, busy = reconciler.slot_policies(), set(reconciler.cleanups.busy)
        sets = await self._read()
        after, busy = reconciler.slot_policies(), busy | reconciler.cleanups.busy
        owners = reconciler.owners()
        found = []
        for slot in sorted((after.keys() | owners.keys() | {slot for slot, _ in sets}) - busy):
            realised = after.get(slot, UNREALISED)
            if before.get(slot, UNREALISED) is realised:
                repair = plan_repair(
                    slot, realised, self._maps.read_slot(slot), sets, owner=owners.get(slot, Identity(0))
                )
                found += self._repair(slot, repair)
        return found

    def _repair(self, slot: int, repair: Repair) -> list[Drift]:
        if not repair.differences:
            return []
        try:
            self._maps.perform(repair.instructions)
        except MapFull as full:  # foreign entries fill it; those of the next slots go first then
            log.error("the policy of slot %d can't be repaired yet: %s", slot, full)
            return []
        self._reconciler.repaired(slot, repair.realised)
        return [Drift(f"policy of slot {slot}", repair.differences)]


def plan_repair(slot: int, realised: RealisedPolicy, slot_words: PolicySlot, sets: Sets, *, owner: Identity) -> Repair:
    """Plan how a slot gets back to the policy that was realised in it.

    Its revision grows, so that flows that were decided by the wrong entries are decided anew.

    Args:
        slot_words: The slot in the kernel; no switch of ours is under way in it.
        owner: Identity whose slot it is; 0: nobody's.
    """
    version = slot_words.current
    found, other = sets.get((slot, realised.version.set), {}), sets.get((slot, realised.version.set ^ 1), {})
    wrong = {key: entry for key, entry in realised.entries.items() if found.get(key) != entry}
    foreign, stray = frozenset(found.keys() - realised.entries.keys()), frozenset(other.keys() - realised.leftover)
    differences = [
        *(_described(key, found.get(key), entry) for key, entry in wrong.items()),
        *(_described(key, found[key], None) for key in foreign),
        *(_described(key, other[key], None) for key in stray),
    ]
    if version != realised.version:
        differences.append(f"its version was {version}, not {realised.version}")
    if slot_words.policy_epoch:
        differences.append(
            f"it had a next version, {slot_words.next}, from epoch {slot_words.policy_epoch} on, not none"
        )
    if slot_words.identity != owner:
        differences.append(f"its identity was {slot_words.identity}, not {owner}")
    newest = max(
        realised.version.revision, version.revision, slot_words.next.revision if slot_words.policy_epoch else 0
    )
    revision = newest + 1
    mended = RealisedPolicy(replace(realised.version, revision=revision), realised.entries, realised.leftover)
    steps: list[Instruction] = []
    if foreign:
        steps.append(DeleteEntries(slot, realised.version.set, foreign))
    if stray:
        steps.append(DeleteEntries(slot, realised.version.set ^ 1, stray))
    if wrong:
        steps.append(PutEntries(slot, realised.version.set, wrong))
    steps += [StoreVersion(slot, mended.version), ClearNextVersion(slot), StoreIdentity(slot, owner)]
    return Repair(mended, tuple(steps), tuple(differences))


def _described(key: PolicyKey, found: PolicyEntry | None, wanted: PolicyEntry | None) -> str:
    return f"{key} was {found or 'missing'}, not {wanted or 'missing'}"
