"""Drift of the policy maps: what cilia_policy and cilia_policy_slots hold otherwise than the reconciler
wrote it.

Entries are read in a worker thread; slots that change by ourselves meanwhile are left to the next look.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.errors import MapFull
from services.agent.drift.reporter import Drift
from services.agent.policy.maps import PolicyMaps, Sets, Subject
from services.agent.policy.plan import UNREALISED, Forget, Instruction, Name, Put, Remove, SlotState, Store
from services.agent.policy.reconciler import PolicyReconciler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repair:
    """What makes a slot right again, and in words what was wrong with it."""

    held: SlotState
    instructions: tuple[Instruction, ...]
    faults: tuple[str, ...]


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
        before, busy = reconciler.held(), set(reconciler.cleanups.busy)
        sets = await self._read()
        after, busy = reconciler.held(), busy | reconciler.cleanups.busy
        owners = reconciler.owners()
        found = []
        for slot in sorted((after.keys() | owners.keys() | {slot for slot, _ in sets}) - busy):
            held = after.get(slot, UNREALISED)
            if before.get(slot, UNREALISED) is held:
                repair = plan_repair(slot, held, self._maps.subject(slot), sets, owner=owners.get(slot, Identity(0)))
                found += self._repair(slot, repair)
        return found

    def _repair(self, slot: int, repair: Repair) -> list[Drift]:
        if not repair.faults:
            return []
        try:
            self._maps.perform(repair.instructions)
        except MapFull as full:  # of foreign entries; those of the next slots go first then
            log.error("the policy of slot %d can't be repaired yet: %s", slot, full)
            return []
        self._reconciler.repaired(slot, repair.held)
        return [Drift(f"policy of slot {slot}", repair.faults)]


def plan_repair(slot: int, held: SlotState, subject: Subject, sets: Sets, *, owner: Identity) -> Repair:
    """Plan how a slot gets back to what it ought to hold.

    Its revision grows, so that flows that were decided by the wrong entries are decided anew.

    Args:
        subject: What the kernel says of the slot, in which no switch is under way.
        owner: Whose slot it is; 0: nobody's.
    """
    version = subject.current
    found, other = sets.get((slot, held.version.set), {}), sets.get((slot, held.version.set ^ 1), {})
    wrong = {key: entry for key, entry in held.entries.items() if found.get(key) != entry}
    foreign, stray = frozenset(found.keys() - held.entries.keys()), frozenset(other.keys() - held.leftover)
    faults = [
        *(_fault(key, found.get(key), entry) for key, entry in wrong.items()),
        *(_fault(key, found[key], None) for key in foreign),
        *(_fault(key, other[key], None) for key in stray),
    ]
    if version != held.version:
        faults.append(f"its version was {version}, not {held.version}")
    if subject.epoch:
        faults.append(f"it had a next version, {subject.next}, from epoch {subject.epoch} on, not none")
    if subject.identity != owner:
        faults.append(f"its identity was {subject.identity}, not {owner}")
    newest = max(held.version.revision, version.revision, subject.next.revision if subject.epoch else 0)
    revision = newest + 1
    mended = SlotState(replace(held.version, revision=revision), held.entries, held.leftover)
    steps: list[Instruction] = []
    if foreign:
        steps.append(Remove(slot, held.version.set, foreign))
    if stray:
        steps.append(Remove(slot, held.version.set ^ 1, stray))
    if wrong:
        steps.append(Put(slot, held.version.set, wrong))
    steps += [Store(slot, mended.version), Forget(slot), Name(slot, owner)]
    return Repair(mended, tuple(steps), tuple(faults))


def _fault(key: PolicyKey, found: PolicyEntry | None, wanted: PolicyEntry | None) -> str:
    return f"{key} was {found or 'missing'}, not {wanted or 'missing'}"
