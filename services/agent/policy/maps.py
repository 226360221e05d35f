"""Maps of policy as the agent reads and writes them: instructions in, calls of bpf(2) out.

Every map here is pinned and outlives the agent; ``read_*`` gives back what a former agent left.
Waiting for readers blocks for an RCU grace period and is left to the caller's worker thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import cast

from cilia.abi import maps
from cilia.abi.enums import PolicyShape
from cilia.abi.offsets import PolicyKeyOffset, PolicySlotOffset
from cilia.abi.structs import PolicyEntry as EntryValue
from cilia.abi.structs import PolicyKey as EntryKey
from cilia.abi.structs import PolicyVersion
from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.objects import LoadedObject
from services.agent.change import ChangeWord
from services.agent.policy.instructions import (
    ClearNextVersion,
    DeleteEntries,
    Instruction,
    PutEntries,
    RealisedPolicy,
    StoreIdentity,
    StoreNextVersion,
    StorePolicyEpoch,
    StoreVersion,
    Version,
)

CURRENT, NEXT = PolicySlotOffset.CURRENT, PolicySlotOffset.NEXT
EPOCH, IDENTITY = PolicySlotOffset.EPOCH, PolicySlotOffset.IDENTITY
DIRECTION = PolicyKeyOffset.DIRECTION
"""Offset of the first member of a packed key that doesn't tell the slot and its set."""
Sets = Mapping[tuple[int, int], Mapping[PolicyKey, PolicyEntry]]
"""Entries of cilia_policy by slot and set."""


@dataclass(frozen=True, slots=True)
class FoundSlot:
    """Policy that a former agent left in a slot; identity 0: it is free, its revision counts."""

    identity: Identity
    realised: RealisedPolicy


@dataclass(frozen=True, slots=True)
class PolicySlot:
    """Slot in the kernel, ``struct policy_slot``; ``next`` counts unless ``policy_epoch`` is 0."""

    current: Version
    next: Version
    policy_epoch: int
    identity: Identity


class PolicyMaps:
    """The maps cilia_policy_slots, cilia_policy_epoch and cilia_policy."""

    def __init__(self, objects: LoadedObject) -> None:
        self._entries, self._read_map = objects.map(maps.POLICY), objects.map(maps.POLICY)
        with objects.map(maps.POLICY_SLOTS) as slots, objects.map(maps.POLICY_EPOCH) as policy_epoch:
            self._slot_words, self._policy_epoch = ArrayMemory(slots), ArrayMemory(policy_epoch)
            self.slots = slots.info.max_entries
        self.capacity = self._entries.info.max_entries
        self._change = ChangeWord(objects)

    def close(self) -> None:
        """Give maps and memory back."""
        self._entries.close()
        self._read_map.close()
        self._slot_words.close()
        self._policy_epoch.close()
        self._change.close()

    @property
    def policy_epoch(self) -> int:
        """Value of cilia_policy_epoch."""
        return self._policy_epoch.load_u32(0)

    def read(self) -> dict[int, FoundSlot]:
        """Return the slots that a former agent left, each with one version in force.

        An agent that died between a switch and its cleanup leaves ``next`` in force; that is made
        ``current``. One that died before the switch leaves a ``next`` that a later epoch would
        bring into force; it is forgotten. The caller waits for readers before it changes anything.
        """
        sets = self.read_sets()
        slots = {}
        for slot in range(1, self.slots):
            identity = self._slot_words.load_u32(slot, IDENTITY)
            version = self._finish_switch(slot)
            entries = sets.get((slot, version.set), {})
            leftover = frozenset(sets.get((slot, version.set ^ 1), {}))
            if identity or version.revision or entries or leftover:
                slots[slot] = FoundSlot(Identity(identity), RealisedPolicy(version, entries, leftover))
        return slots

    def read_sets(self) -> Sets:
        """Return all entries; for one thread at a time, which may be another than the writer's."""
        sets: dict[tuple[int, int], dict[PolicyKey, PolicyEntry]] = {}
        for key, value in self._read_map.items():
            sets.setdefault((key.slot, key.set), {})[_key_of(key)] = _entry_of(value)
        return sets

    def read_slot(self, slot: int) -> PolicySlot:
        """Return a slot as it is in the kernel."""
        policy_epoch, identity = self._slot_words.load_u32(slot, EPOCH), self._slot_words.load_u32(slot, IDENTITY)
        current, following = (_version(self._slot_words.load_u64(slot, offset)) for offset in (CURRENT, NEXT))
        return PolicySlot(current, following, policy_epoch, Identity(identity))

    def _finish_switch(self, slot: int) -> Version:
        word = self._slot_words.load_u64(slot, CURRENT)
        policy_epoch = self._slot_words.load_u32(slot, EPOCH)
        if policy_epoch:
            if self.policy_epoch >= policy_epoch:
                word = self._slot_words.load_u64(slot, NEXT)
                self._slot_words.store_u64(slot, word, CURRENT)
            self._slot_words.store_u32(slot, 0, EPOCH)
        return _version(word)

    def store_identity(self, slot: int, identity: Identity) -> None:
        """Store the identity whose slot it is."""
        self._slot_words.store_u32(slot, identity, IDENTITY)

    def perform(self, instructions: Iterable[Instruction]) -> None:
        """Carry instructions out, in order; AwaitGracePeriod isn't among them.

        Raises:
            MapFull: The forecast was wrong: an entry found no room.
        """
        with self._change.under_way():
            for kind, some in groupby(instructions, type):
                if kind is PutEntries:
                    self._put(cast(Iterable[PutEntries], some))
                elif kind is DeleteEntries:
                    self._remove(cast(Iterable[DeleteEntries], some))
                else:
                    for instruction in some:
                        self._store(instruction)

    def _put(self, puts: Iterable[PutEntries]) -> None:
        keys, values = list[bytes](), list[bytes]()
        for put in puts:
            keys += _packed_keys(put.slot, put.set, put.entries)
            values += map(_packed_value, put.entries.values())
        self._entries.update_packed(b"".join(keys), b"".join(values), len(keys))

    def _remove(self, removes: Iterable[DeleteEntries]) -> None:
        keys = [key for remove in removes for key in _packed_keys(remove.slot, remove.set, remove.keys)]
        self._entries.delete_packed(b"".join(keys))

    def _store(self, instruction: Instruction) -> None:
        match instruction:
            case StoreVersion(slot, version):
                self._slot_words.store_u64(slot, _word(version), CURRENT)
            case StoreNextVersion(slot, version, policy_epoch):
                self._slot_words.store_u64(slot, _word(version), NEXT)
                self._slot_words.store_u32(slot, policy_epoch, EPOCH)
            case StorePolicyEpoch(policy_epoch):
                self._policy_epoch.store_u32(0, policy_epoch)
            case ClearNextVersion(slot):
                self._slot_words.store_u32(slot, 0, EPOCH)
            case StoreIdentity(slot, identity):
                self.store_identity(slot, identity)
            case _:
                raise ValueError(f"{instruction} blocks: it belongs in a worker thread")

    def read_entries(self, slot: int) -> dict[PolicyKey, PolicyEntry]:
        """Return the entries in force for one slot, as the kernel holds them."""
        policy_epoch = self._slot_words.load_u32(slot, EPOCH)
        word = self._slot_words.load_u64(slot, NEXT if policy_epoch and self.policy_epoch >= policy_epoch else CURRENT)
        in_force = PolicyVersion.unpack(word.to_bytes(8, "little")).set
        return {
            _key_of(key): _entry_of(value)
            for key, value in self._entries.items()
            if key.slot == slot and key.set == in_force
        }


def _word(version: Version) -> int:
    packed = PolicyVersion(version.revision, version.set, int(version.audit), version.named_only, version.shapes).pack()
    return int.from_bytes(packed, "little")


def _version(word: int) -> Version:
    version = PolicyVersion.unpack(word.to_bytes(8, "little"))
    return Version(version.revision, version.set, version.shapes, bool(version.audit), version.named_only)


def _packed_keys(slot: int, entry_set: int, keys: Iterable[PolicyKey]) -> list[bytes]:
    slot_and_set = EntryKey(slot, entry_set, 0, 0, 0, 0, 0).pack()[:DIRECTION]
    return [slot_and_set + _packed_from_direction(key) for key in keys]


@lru_cache(1 << 14)
def _packed_from_direction(key: PolicyKey) -> bytes:
    shape = PolicyShape.PROTOCOL + key.port_bits if key.protocol else PolicyShape.ANY
    return EntryKey(0, 0, int(key.egress), key.identity, key.port, key.protocol, shape).pack()[DIRECTION:]


def _key_of(key: EntryKey) -> PolicyKey:
    return PolicyKey(
        bool(key.direction), Identity(key.identity), key.protocol, key.port, max(0, key.shape - PolicyShape.PROTOCOL)
    )


@lru_cache(1 << 14)
def _packed_value(entry: PolicyEntry) -> bytes:
    cookie = entry.peer_set or entry.cookie
    return EntryValue(entry.precedence, cookie, int(entry.deny), int(entry.audit), int(entry.peer_set > 0)).pack()


def _entry_of(value: EntryValue) -> PolicyEntry:
    cookie, peer_set = (0, value.cookie) if value.is_member else (value.cookie, 0)
    return PolicyEntry(bool(value.deny), value.precedence, cookie, bool(value.audit), peer_set)
