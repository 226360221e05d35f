"""Audit of the kernel's policy: whether cilia_policy and cilia_subjects still hold what the realiser wrote.

Nobody else should write these maps; who does, by mistake or on purpose, opens or closes the node. The entries are read in a
worker thread; what changed by ourselves meanwhile is left to the next look.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.errors import MapFull
from cilia.metrics import counter
from services.agent.kernel import PolicyMaps, Sets
from services.agent.policy import UNREALISED, Held, Instruction, Put, Remove, Store, Version
from services.agent.realise import Realiser

log = logging.getLogger(__name__)


@dataclass(slots=True)
class AuditCounters:
    """What the audit saw."""

    looks: int = counter("looks at the kernel's policy")
    foreign: int = counter("entries and words of policy that somebody else had changed, and that were repaired")


@dataclass(frozen=True, slots=True)
class Repair:
    """What makes a slot right again, and in words what was wrong with it."""

    held: Held
    instructions: tuple[Instruction, ...]
    faults: tuple[str, ...]


class Audit:
    """Compares and repairs. ``run`` goes to the supervisor.

    Args:
        read: Gives the entries in the kernel, without blocking the loop.
        seconds: Between two looks.
    """

    def __init__(
        self, maps: PolicyMaps, realiser: Realiser, read: Callable[[], Awaitable[Sets]], seconds: float
    ) -> None:
        self._maps = maps
        self._realiser = realiser
        self._read = read
        self._seconds = seconds
        self.last_fault = ""
        self.counters = AuditCounters()

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Compare once, and repair what is wrong."""
        before, busy = self._realiser.held(), set(self._realiser.cleanups.busy)
        sets = await self._read()
        after, busy = self._realiser.held(), busy | self._realiser.cleanups.busy
        for slot in (after.keys() | {slot for slot, _ in sets}) - busy:
            held = after.get(slot, UNREALISED)
            if before.get(slot, UNREALISED) is held:
                self._repair(slot, plan_repair(slot, held, self._maps.version(slot), sets))
        self.counters.looks += 1

    def _repair(self, slot: int, repair: Repair) -> None:
        if not repair.faults:
            return
        try:
            self._maps.perform(repair.instructions)
        except MapFull as full:  # of foreign entries; those of the next slots go first then
            self.last_fault = f"slot {slot}: {full}"
            log.error("the policy of slot %d can't be repaired yet: %s", slot, full)
            return
        self._realiser.repaired(slot, repair.held)
        self.counters.foreign += len(repair.faults)
        self.last_fault = f"slot {slot}: {repair.faults[0]}"
        log.error(
            "somebody else changed the policy of slot %d; it is repaired: %s", slot, "; ".join(repair.faults[:20])
        )


def plan_repair(slot: int, held: Held, version: Version, sets: Sets) -> Repair:
    """Plan how a slot gets back to what it ought to hold.

    Its revision grows, so that flows that were decided by the wrong entries are decided anew.
    """
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
    revision = max(held.version.revision, version.revision) + 1
    mended = Held(Version(revision, held.version.set, held.version.shapes), held.entries, held.leftover)
    steps: list[Instruction] = []
    if foreign:
        steps.append(Remove(slot, held.version.set, foreign))
    if stray:
        steps.append(Remove(slot, held.version.set ^ 1, stray))
    if wrong:
        steps.append(Put(slot, held.version.set, wrong))
    return Repair(mended, (*steps, Store(slot, mended.version)), tuple(faults))


def _fault(key: PolicyKey, found: PolicyEntry | None, wanted: PolicyEntry | None) -> str:
    return f"{key} was {found or 'missing'}, not {wanted or 'missing'}"
