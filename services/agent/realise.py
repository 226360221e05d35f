"""Resolved policy into the kernel: the one writer of cilia_subjects, cilia_epoch and cilia_policy.

RESOLVED has one shard per subject identity; this loop hears those that live here. What piles up while a change is
being written becomes one hand-over: visible at once, acknowledged, then cleaned up after a grace period in a worker
thread. A subject is realised only once its shard is complete; until then its slot denies all, or, after a restart,
keeps what the former agent left in force.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from cilia.contracts.ids import Identity, Revision
from cilia.contracts.tables import PolicyEntry, PolicyKey, SubjectKey
from cilia.metrics import counter
from cilia.table.subscriber import TableSubscriber
from cilia.telemetry import span
from services.agent.errors import PolicyDoesNotFit
from services.agent.kernel import PolicyMaps
from services.agent.policy import UNREALISED, Change, Held, Instruction, Plan, Wait, plan, plan_release
from services.agent.slots import Slots

log = logging.getLogger(__name__)

Acknowledge = Callable[[Mapping[Identity, Revision]], Awaitable[None]]
WaitForReaders = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class RealiserCounters:
    """What the loop did."""

    hand_overs: int = counter("hand-overs of policy to the kernel")
    subjects: int = counter("subjects whose policy changed in the kernel")
    refused: int = counter("subjects whose policy found no room")
    visible_us: int = counter("microseconds from the start of hand-overs until their policy was in force")


class Realiser:
    """Keeps the policy of the local identities in force. ``run`` goes to the supervisor."""

    def __init__(
        self,
        maps: PolicyMaps,
        resolved: TableSubscriber[SubjectKey, PolicyEntry],
        *,
        acknowledge: Acknowledge,
        wait_for_readers: WaitForReaders,
    ) -> None:
        self._maps = maps
        self._resolved = resolved
        self._acknowledge = acknowledge
        self._wait_for_readers = wait_for_readers
        left = maps.read()
        self._held: dict[int, Held] = {slot: found.held for slot, found in left.items()}
        taken = {found.identity: slot for slot, found in left.items() if found.identity}
        self._slots = Slots(maps.slots, taken)
        self._entries = sum(len(held.entries) + len(held.leftover) for held in self._held.values())
        self._wanted: set[Identity] = set()
        self._dirty: set[Identity] = set(taken)
        self._cause = ""  # traceparent of the newest change
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self.realised: dict[Identity, Revision] = {}
        """Identity -> sequence of its shard that is in force."""
        self.refused: dict[Identity, PolicyDoesNotFit] = {}
        """Subjects that keep an older policy since the newer one doesn't fit."""
        self.counters = RealiserCounters()

    # what others ask for

    @property
    def wanted(self) -> int:
        """Identities that live here."""
        return len(self._wanted)

    @property
    def capacity(self) -> int:
        """Entries that cilia_policy holds at most."""
        return self._maps.capacity

    @property
    def entries(self) -> int:
        """Entries in cilia_policy."""
        return self._entries

    def ensure(self, identity: Identity) -> int:
        """Return the identity's slot, and begin to keep its policy in force.

        Raises:
            NoSlot: Too many identities live here.
        """
        slot = self._slots.assign(identity)
        if identity not in self._wanted:
            self._wanted.add(identity)
            self._maps.name(slot, identity)
            self._resolved.add_shard(str(identity))
            self._touch([identity])
        return slot

    def release(self, identity: Identity) -> None:
        """Cease to keep the policy of an identity that lives here no longer."""
        if identity in self._wanted:
            self._wanted.discard(identity)
            self._resolved.drop_shard(str(identity))
            self._touch([identity])

    def slot(self, identity: Identity) -> int:
        """Return the identity's slot; 0 if it has none."""
        return self._slots.get(identity)

    def in_force(self, identity: Identity) -> bool:
        """Tell whether some policy of the identity is in force."""
        held = self._held.get(self._slots.get(identity), UNREALISED)
        return held.version.revision > 0 and (identity in self.realised or bool(held.version.shapes))

    def read(self, identity: Identity) -> dict[PolicyKey, PolicyEntry]:
        """Return an identity's entries in force, read from the kernel."""
        slot = self._slots.get(identity)
        return self._maps.read_entries(slot) if slot else {}

    async def wait_realised(self, identity: Identity, revision: Revision) -> None:
        """Wait until the policy that ``revision`` implies for an identity is in force; bound it with a timeout.

        An identity that policy hasn't met yet has an empty shard; one with rows is known to it.

        Raises:
            PolicyDoesNotFit: The policy finds no room, and no older one is in force.
        """
        shard = str(identity)
        if not (self._resolved.shard_complete(shard) and self._resolved.rows(shard)):
            await self._resolved.wait_sequence(shard, 1)
            if not self._resolved.rows(shard):
                await self._resolved.wait_sequence(shard, revision)
        sequence = self._resolved.sequence(shard)
        while self.realised.get(identity, 0) < sequence and identity not in self.refused:
            self._touch([identity])
            await self._moved.wait()
        if identity in self.refused and not self.in_force(identity):
            raise self.refused[identity]

    # the loops

    async def watch(self) -> None:
        """Note which subjects changed, until cancelled."""
        async for changes in self._resolved.changes():
            self._touch(Identity(int(change.shard)) for change in changes)
            self._cause = next((change.traceparent for change in changes if change.traceparent), "")

    async def run(self) -> None:
        """Realise what changed, until cancelled."""
        await self._wait_for_readers()  # a former agent may have died before it waited
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            with span("realise", parent=self._cause):
                cleanup = await self._hand_over(dirty)
            await self._clean_up(cleanup)
            await self._release(dirty - self._wanted)

    def _touch(self, identities: Iterable[Identity]) -> None:
        self._dirty.update(identities)
        self._wake.set()

    async def _hand_over(self, dirty: set[Identity]) -> tuple[Instruction, ...]:
        started = time.perf_counter_ns()
        sequences: dict[Identity, Revision] = {}
        changes = []
        for identity in sorted(dirty & self._wanted):
            if not self._resolved.shard_complete(str(identity)):
                continue
            slot = self._slots.get(identity)
            desired = {key.key: row for key, row in self._resolved.rows(str(identity)).items()}
            sequences[identity] = Revision(self._resolved.sequence(str(identity)))
            changes.append(Change(slot, identity, self._held.get(slot, UNREALISED), desired))
        if not changes:
            return ()
        steps = plan(changes, epoch=self._maps.epoch, free=self._maps.capacity - self._entries)
        self._maps.perform(steps.visible)
        self._note(steps)
        for refusal in steps.refused:
            del sequences[refusal.identity]
        self._note_refused(sequences, steps)
        news = {identity: at for identity, at in sequences.items() if self.realised.get(identity) != at}
        self.realised.update(sequences)
        self.counters.hand_overs += 1
        self.counters.subjects += len(steps.after)
        self.counters.visible_us += (time.perf_counter_ns() - started) // 1000
        self._moved.set()
        self._moved = asyncio.Event()
        if news:
            await self._acknowledge(news)
        return steps.cleanup

    def _note(self, steps: Plan) -> None:
        for slot, held in steps.after.items():
            before = self._held.get(slot, UNREALISED)
            self._entries += len(held.entries) + len(held.leftover) - len(before.entries) - len(before.leftover)
            self._held[slot] = held

    def _note_refused(self, sequences: Iterable[Identity], steps: Plan) -> None:
        for identity in sequences:
            self.refused.pop(identity, None)
        for refusal in steps.refused:
            if refusal.identity not in self.refused:
                log.error("%s; its older policy stays in force", refusal)
            self.refused[refusal.identity] = refusal
        self.counters.refused += len(steps.refused)

    async def _clean_up(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Wait):
                await self._wait_for_readers()
            else:
                self._maps.perform((instruction,))

    async def _release(self, identities: Iterable[Identity]) -> None:
        steps = []
        for identity in identities:
            slot = self._slots.get(identity)
            if slot:
                steps.append((identity, slot, plan_release(slot, self._held.get(slot, UNREALISED))))
        if not steps:
            return
        for _, _, each in steps:
            self._maps.perform(each.visible)
            self._note(each)
        await self._wait_for_readers()
        for identity, slot, each in steps:
            self._maps.perform(step for step in each.cleanup if not isinstance(step, Wait))
            self.realised.pop(identity, None)
            self.refused.pop(identity, None)
            if identity not in self._wanted:
                self._maps.name(slot, Identity(0))
                self._slots.release(identity)
            else:
                self._touch([identity])
