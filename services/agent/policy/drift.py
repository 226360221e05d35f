"""Audit of the kernel's policy: whether cilia_policy and cilia_policy_slots still hold what the
realiser wrote.

Nobody else should write these maps; who does, by mistake or on purpose, opens or closes the node.
The entries are read in a worker thread; what changed by ourselves meanwhile is left to the next
look.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.errors import MapFull
from services.agent.metrics.drift import PAUSES, DriftReports
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
    """Compares and repairs. ``run`` goes to the supervisor.

    Args:
        read: Gives the entries in the kernel, without blocking the loop.
        seconds: Between two looks.
    """

    def __init__(
        self,
        maps: PolicyMaps,
        realiser: PolicyReconciler,
        read: Callable[[], Awaitable[Sets]],
        faults: DriftReports,
        *,
        seconds: float,
    ) -> None:
        self._maps = maps
        self._realiser = realiser
        self._read = read
        self._faults = faults
        self._seconds = seconds

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        seconds = self._seconds
        while True:
            await asyncio.sleep(seconds)
            began = time.monotonic()
            await self.look()
            seconds = max(self._seconds, (time.monotonic() - began) * PAUSES)

    async def look(self) -> None:
        """Compare once, and repair what is wrong."""
        before, busy = self._realiser.held(), set(self._realiser.cleanups.busy)
        sets = await self._read()
        after, busy = self._realiser.held(), busy | self._realiser.cleanups.busy
        owners = self._realiser.owners()
        for slot in (after.keys() | owners.keys() | {slot for slot, _ in sets}) - busy:
            held = after.get(slot, UNREALISED)
            if before.get(slot, UNREALISED) is held:
                owner = owners.get(slot, Identity(0))
                self._repair(slot, plan_repair(slot, held, self._maps.subject(slot), sets, owner=owner))
        self._faults.counters.looks += 1

    def _repair(self, slot: int, repair: Repair) -> None:
        if not repair.faults:
            return
        try:
            self._maps.perform(repair.instructions)
        except MapFull as full:  # of foreign entries; those of the next slots go first then
            log.error("the policy of slot %d can't be repaired yet: %s", slot, full)
            return
        self._realiser.repaired(slot, repair.held)
        self._faults.report(f"policy of slot {slot}", repair.faults)


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
