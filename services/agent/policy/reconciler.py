"""Reconciler of policy: the one writer of cilia_policy_slots, cilia_policy_epoch and cilia_policy.

RESOLVED has one shard per identity; this loop hears those that live here. What piles up while a
change is being written becomes one hand-over: visible at once, acknowledged, then cleaned up after
a grace period in a worker thread. An identity is realised only once its shard is complete; until
then its slot denies all, or, after a restart, keeps what the former agent left in force. Policy
that found no room is tried again when entries of others have gone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from cilia.contracts.ids import Identity, Revision
from cilia.contracts.tables import PolicyEntry, PolicyKey, SubjectKey
from cilia.metrics import counter
from cilia.notify import Broadcast, Wakeup
from cilia.table.subscriber import TableSubscriber
from cilia.telemetry import span
from services.agent.errors import PolicyDoesNotFit
from services.agent.policy.cleanup import Cleanups
from services.agent.policy.instructions import UNREALISED, PutEntries, RealisedPolicy
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.pending import PendingGroups
from services.agent.policy.plan import Change, Plan, inherit, plan, plan_release
from services.agent.policy.slots import Slots

log = logging.getLogger(__name__)

REACH_PAUSE_SECONDS: Final = 0.2
"""Longest wait for one shard, after which its identity may have ceased to live here."""

Acknowledge = Callable[[Mapping[Identity, Revision]], Awaitable[None]]
"""Function that tells the cluster which sequences are in force."""
SynchronizeRcu = Callable[[], Awaitable[None]]
"""Function that waits for a grace period, without blocking the loop."""


@dataclass(slots=True)
class PolicyCounters:
    """Counters of the loop."""

    hand_overs: int = counter("hand-overs of policy to the kernel")
    identities: int = counter("identities whose policy changed in the kernel")
    refused: int = counter("identities whose policy found no room")
    visible_us: int = counter("microseconds from the start of hand-overs until their policy was in force")


class PolicyReconciler:
    """Keeps the policy of the local identities in force. ``run`` goes to the supervisor."""

    def __init__(
        self,
        maps: PolicyMaps,
        resolved: TableSubscriber[SubjectKey, PolicyEntry],
        *,
        acknowledge: Acknowledge,
        synchronize_rcu: SynchronizeRcu,
    ) -> None:
        self._maps = maps
        self._resolved = resolved
        self._acknowledge = acknowledge
        self._synchronize_rcu = synchronize_rcu
        self.cleanups = Cleanups(maps, synchronize_rcu)
        left = maps.read()
        self._slot_policies: dict[int, RealisedPolicy] = {slot: found.realised for slot, found in left.items()}
        taken = {found.identity: slot for slot, found in left.items() if found.identity}
        self._slots = Slots(maps.slots, taken)
        self._entries = sum(len(realised.entries) + len(realised.leftover) for realised in self._slot_policies.values())
        self._wanted: set[Identity] = set()
        self._pending = PendingGroups()
        self._pending.add(taken)
        self._causes: dict[Identity, str] = {}
        self._addresses_ready = False
        self._wakeup = Wakeup()
        self._progress = Broadcast()
        self.realised: dict[Identity, Revision] = {}
        """Sequence of each identity's shard that is in force."""
        self.refused: dict[Identity, PolicyDoesNotFit] = {}
        """Identities that keep an older policy since the newer one doesn't fit."""
        self.counters = PolicyCounters()

    # calls of others

    @property
    def wanted(self) -> int:
        """Number of identities that live here."""
        return len(self._wanted)

    @property
    def capacity(self) -> int:
        """Number of entries that cilia_policy holds at most."""
        return self._maps.capacity

    @property
    def entries(self) -> int:
        """Number of entries in cilia_policy."""
        return self._entries

    @property
    def slots_in_use(self) -> int:
        """Number of slots of cilia_policy_slots that are in use."""
        return len(self._slots.items())

    def ensure(self, identity: Identity) -> int:
        """Return the identity's slot, and begin to keep its policy in force.

        Raises:
            NoSlot: Too many identities live here.
        """
        slot = self._slots.assign(identity)
        if identity not in self._wanted:
            self._wanted.add(identity)
            self._maps.store_identity(slot, identity)
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
        realised = self._slot_policies.get(self._slots.get(identity), UNREALISED)
        return realised.version.revision > 0 and (identity in self.realised or bool(realised.version.shapes))

    def read(self, identity: Identity) -> dict[PolicyKey, PolicyEntry]:
        """Return an identity's entries in force, read from the kernel."""
        slot = self._slots.get(identity)
        return self._maps.read_entries(slot) if slot else {}

    async def wait_realised(self, identity: Identity, revision: Revision) -> None:
        """Wait until an identity's policy of ``revision`` is in force; bound it with a timeout.

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
            await self._progress.wait()
        if identity in self.refused and not self.in_force(identity):
            raise self.refused[identity]

    async def wait_reached(self, revision: Revision) -> None:
        """Wait until all identities that live here have ``revision`` in force, or refused."""
        for identity in tuple(self._wanted):
            while identity in self._wanted and self._resolved.sequence(str(identity)) < revision:
                with suppress(TimeoutError):  # it may cease to be wanted meanwhile
                    async with asyncio.timeout(REACH_PAUSE_SECONDS):
                        await self._resolved.wait_sequence(str(identity), revision)
        waited = self._wanted.copy()
        for identity in waited:
            self._touch([identity])
        while self._pending.names_any(waited & self._wanted):
            await self._progress.wait()

    def inherit(self, heirs: Mapping[Identity, Identity]) -> None:
        """Give identities that no packet has yet the verdicts of others, in all slots.

        Args:
            heirs: Such an identity -> the one whose verdicts it shall have.
        """
        for slot, realised in self._slot_policies.items():
            added = inherit(realised.entries, heirs)
            if added and len(added) <= self._maps.capacity - self._entries - self.cleanups.entries:
                self._maps.perform([PutEntries(slot, realised.version.set, added)])
                self._entries += len(added)
                self._slot_policies[slot] = replace(realised, entries={**realised.entries, **added})

    def owners(self) -> dict[int, Identity]:
        """Return the identity of each slot in use."""
        return {slot: identity for identity, slot in self._slots.items()}

    def slot_policies(self) -> dict[int, RealisedPolicy]:
        """Return the policy that each slot ought to hold in the kernel."""
        return dict(self._slot_policies)

    def repaired(self, slot: int, realised: RealisedPolicy) -> None:
        """Note the policy of a slot after a repair; its entries are as many as they ought to be."""
        self._slot_policies[slot] = realised

    # the loops

    async def watch(self) -> None:
        """Take changes of resolved policy, until cancelled."""
        async for changes in self._resolved.changes():
            self._causes.update((Identity(int(each.shard)), each.traceparent) for each in changes if each.traceparent)
            self._touch(Identity(int(change.shard)) for change in changes)

    async def run(self, prepare_addresses: Callable[[], Awaitable[None]]) -> None:
        """Realise what changed, until cancelled.

        Args:
            prepare_addresses: Has the ipcache ready for the first policy that is newer than what a
                former agent left.
        """
        await self._synchronize_rcu()  # a former agent may have died before it waited
        self._wakeup.set()
        while True:
            await self._wakeup.wait()
            if not self._addresses_ready and any(self._resolved.shard_complete(str(each)) for each in self._wanted):
                await prepare_addresses()
                self._addresses_ready = True
            free = self._pending.take(lambda identity: self._slots.get(identity) not in self.cleanups.busy)
            with self._traced(free):
                await self._hand_over(free & self._wanted)
            self._progress.notify()
            for identity in free - self._wanted:
                self._give_up(identity)

    def _traced(self, identities: Iterable[Identity]) -> AbstractContextManager[None]:
        """Return a span under the change that caused this hand-over, or one of several."""
        causes = {self._causes.pop(identity, "") for identity in identities} - {""}
        return span("realise", parent=min(causes)) if causes else nullcontext()

    def _touch(self, identities: Iterable[Identity]) -> None:
        self._pending.add(identities)
        self._wakeup.set()

    async def _hand_over(self, identities: Iterable[Identity]) -> None:
        """Bring the policy of identities into force, as far as it is known and fits."""
        started = time.perf_counter_ns()
        changes = [self._change(each) for each in sorted(identities) if self._resolved.shard_complete(str(each))]
        if not changes:
            return
        sequences = {each.identity: Revision(self._resolved.sequence(str(each.identity))) for each in changes}
        free = self._maps.capacity - self._entries - self.cleanups.entries
        steps = plan(changes, policy_epoch=self._maps.policy_epoch, free=free)
        self._maps.perform(steps.visible)
        self._note(steps)
        self._note_refused(sequences, steps)
        for refusal in steps.refused:
            del sequences[refusal.identity]
        news = {identity: at for identity, at in sequences.items() if self.realised.get(identity) != at}
        self.realised.update(sequences)
        self.counters.hand_overs += 1
        self.counters.identities += len(steps.after)
        self.counters.visible_us += (time.perf_counter_ns() - started) // 1000
        self._progress.notify()
        if steps.cleanup:
            self.cleanups.add(steps.after, steps.cleanup, self._retry_refused)
        if news:
            await self._acknowledge(news)

    def _change(self, identity: Identity) -> Change:
        slot = self._slots.get(identity)
        desired = {key.key: row for key, row in self._resolved.rows(str(identity)).items()}
        return Change(slot, identity, self._slot_policies.get(slot, UNREALISED), desired)

    def _note(self, steps: Plan) -> None:
        for slot, realised in steps.after.items():
            before = self._slot_policies.get(slot, UNREALISED)
            self._entries += len(realised.entries) + len(realised.leftover) - len(before.entries) - len(before.leftover)
            self._slot_policies[slot] = realised

    def _note_refused(self, identities: Iterable[Identity], steps: Plan) -> None:
        known = {identity: self.refused.pop(identity, None) for identity in identities}
        for refusal in steps.refused:
            if known[refusal.identity] is None:
                log.error("%s; its older policy stays in force", refusal)
            self.refused[refusal.identity] = refusal
        self.counters.refused += len(steps.refused)

    def _give_up(self, identity: Identity) -> None:
        """Leave an identity's slot without entries; it is free once they are gone."""
        slot = self._slots.get(identity)
        if not slot:
            return
        steps = plan_release(slot, self._slot_policies.get(slot, UNREALISED))
        self._maps.perform(steps.visible)
        self._note(steps)
        self.realised.pop(identity, None)
        self.refused.pop(identity, None)
        self.cleanups.add([slot], steps.cleanup, lambda: self._given_up(identity, slot))

    def _given_up(self, identity: Identity, slot: int) -> None:
        if identity in self._wanted:  # it has come back meanwhile
            self._touch([identity])
            self._retry_refused()
            return
        self._maps.store_identity(slot, Identity(0))
        self._slots.release(identity)
        self._retry_refused()

    def _retry_refused(self) -> None:
        """Try policy again that found no room: entries of others have gone."""
        for identity in self.refused:
            self._touch([identity])
        self._wakeup.set()
