"""Policy maps over the model of the kernel, with programs that lag and room that can run out."""

from collections.abc import Iterable, Mapping
from typing import cast

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from services.agent.policy.instructions import Instruction, RealisedPolicy, StoreIdentity, Version
from services.agent.policy.maps import FoundSlot, PolicyMaps, PolicySlot, Sets
from tests.unit.agent.policy.policy_model import Kernel, Word


class FakePolicyMaps:
    """The maps; what a former agent left is given by slot."""

    def __init__(
        self, left: Mapping[int, tuple[Identity, RealisedPolicy]] | None = None, *, slots: int = 8, capacity: int = 100
    ) -> None:
        found = left or {}
        self.kernel = Kernel.holding({slot: state for slot, (_, state) in found.items()}, 4)
        self.identities = {slot: identity for slot, (identity, _) in found.items()}
        self.slots = slots
        self.capacity = capacity
        self.performed: list[Instruction] = []
        self._left = {slot: FoundSlot(*each) for slot, each in found.items()}

    @property
    def maps(self) -> PolicyMaps:
        """Itself, for code under test."""
        return cast(PolicyMaps, self)

    @property
    def policy_epoch(self) -> int:
        return self.kernel.policy_epoch

    def read(self) -> dict[int, FoundSlot]:
        return self._left

    def store_identity(self, slot: int, identity: Identity) -> None:
        self.identities[slot] = identity

    def perform(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            self.performed.append(instruction)
            if isinstance(instruction, StoreIdentity):
                self.store_identity(instruction.slot, instruction.identity)
                continue
            slot = getattr(instruction, "slot", None)
            if slot is not None:
                self.kernel.words.setdefault(slot, Word())
            for _ in self.kernel.run((instruction,)):
                assert self.kernel.count() <= self.capacity

    def synchronize_rcu(self) -> None:
        """Let every program that lags behind end."""
        self.kernel.lagging.clear()
        self.kernel.lagging_next.clear()

    def in_force(self, slot: int) -> Mapping[PolicyKey, PolicyEntry]:
        """Return the entries that programs meet; none at all before a slot's first version."""
        version = self.kernel.version(slot) if slot in self.kernel.words else Version()
        return self.kernel.entries.get((slot, version.set), {}) if version.shapes else {}

    def read_sets(self) -> Sets:
        return {key: dict(entries) for key, entries in self.kernel.entries.items() if entries}

    def read_entries(self, slot: int) -> dict[PolicyKey, PolicyEntry]:
        return dict(self.in_force(slot))

    def read_slot(self, slot: int) -> PolicySlot:
        word = self.kernel.words.get(slot, Word())
        return PolicySlot(word.current, word.next, word.policy_epoch, self.identities.get(slot, Identity(0)))
