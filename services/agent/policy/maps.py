"""The maps of policy as the agent writes them: pure plans in, calls of bpf(2) out.

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
from services.agent.policy.plan import (
    Forget,
    Instruction,
    Name,
    Prepare,
    Put,
    Remove,
    SlotState,
    Store,
    Switch,
    Version,
)

CURRENT, NEXT = PolicySlotOffset.CURRENT, PolicySlotOffset.NEXT
EPOCH, IDENTITY = PolicySlotOffset.EPOCH, PolicySlotOffset.IDENTITY
DIRECTION = PolicyKeyOffset.DIRECTION
"""Offset of the first member of a packed key that doesn't tell the slot and its set."""
Sets = Mapping[tuple[int, int], Mapping[PolicyKey, PolicyEntry]]
"""Entries of cilia_policy by slot and set."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot of cilia_policy_slots says; identity 0: it is free, and its revision still counts."""

    identity: Identity
    held: SlotState


@dataclass(frozen=True, slots=True)
class Subject:
    """``struct policy_slot``: what the kernel says of a slot; ``next`` counts unless ``epoch`` is 0."""

    current: Version
    next: Version
    epoch: int
    identity: Identity


class PolicyMaps:
    """cilia_policy_slots, cilia_policy_epoch and cilia_policy."""

    def __init__(self, objects: LoadedObject) -> None:
        self._entries, self._audited = objects.map(maps.POLICY), objects.map(maps.POLICY)
        with objects.map(maps.POLICY_SLOTS) as subjects, objects.map(maps.POLICY_EPOCH) as epoch:
            self._subjects, self._epoch = ArrayMemory(subjects), ArrayMemory(epoch)
            self.slots = subjects.info.max_entries
        self.capacity = self._entries.info.max_entries

    def close(self) -> None:
        """Give maps and memory back."""
        self._entries.close()
        self._audited.close()
        self._subjects.close()
        self._epoch.close()

    @property
    def epoch(self) -> int:
        """The value of cilia_policy_epoch."""
        return self._epoch.load_u32(0)

    def read(self) -> dict[int, Slot]:
        """Return the slots that a former agent left, each with one version in force and no pending
        switch.

        An agent that died between a switch and its cleanup leaves ``next`` in force; that is made
        ``current``. One that died before the switch leaves a ``next`` that a later epoch would
        bring into force; it is forgotten. The caller waits for readers before it changes anything.
        """
        sets = self.read_sets()
        slots = {}
        for slot in range(1, self.slots):
            identity = self._subjects.load_u32(slot, IDENTITY)
            version = self._settle(slot)
            entries = sets.get((slot, version.set), {})
            leftover = frozenset(sets.get((slot, version.set ^ 1), {}))
            if identity or version.revision or entries or leftover:
                slots[slot] = Slot(Identity(identity), SlotState(version, entries, leftover))
        return slots

    def read_sets(self) -> Sets:
        """Return all entries; to be called from one thread at a time, and that may be another than
        the writer's.
        """
        sets: dict[tuple[int, int], dict[PolicyKey, PolicyEntry]] = {}
        for key, value in self._audited.items():
            sets.setdefault((key.slot, key.set), {})[_key_of(key)] = _entry_of(value)
        return sets

    def subject(self, slot: int) -> Subject:
        """Return what a slot says now."""
        epoch, identity = self._subjects.load_u32(slot, EPOCH), self._subjects.load_u32(slot, IDENTITY)
        current, following = (_version(self._subjects.load_u64(slot, offset)) for offset in (CURRENT, NEXT))
        return Subject(current, following, epoch, Identity(identity))

    def _settle(self, slot: int) -> Version:
        word = self._subjects.load_u64(slot, CURRENT)
        epoch = self._subjects.load_u32(slot, EPOCH)
        if epoch:
            if self.epoch >= epoch:
                word = self._subjects.load_u64(slot, NEXT)
                self._subjects.store_u64(slot, word, CURRENT)
            self._subjects.store_u32(slot, 0, EPOCH)
        return _version(word)

    def name(self, slot: int, identity: Identity) -> None:
        """Note whose slot it is."""
        self._subjects.store_u32(slot, identity, IDENTITY)

    def perform(self, instructions: Iterable[Instruction]) -> None:
        """Carry instructions out, in order; Wait isn't among them.

        Raises:
            MapFull: The forecast was wrong: an entry found no room.
        """
        for kind, some in groupby(instructions, type):
            if kind is Put:
                self._put(cast(Iterable[Put], some))
            elif kind is Remove:
                self._remove(cast(Iterable[Remove], some))
            else:
                for instruction in some:
                    self._store(instruction)

    def _put(self, puts: Iterable[Put]) -> None:
        keys, values = list[bytes](), list[bytes]()
        for put in puts:
            keys += _packed_keys(put.slot, put.set, put.entries)
            values += map(_packed_value, put.entries.values())
        self._entries.update_packed(b"".join(keys), b"".join(values), len(keys))

    def _remove(self, removes: Iterable[Remove]) -> None:
        keys = [key for remove in removes for key in _packed_keys(remove.slot, remove.set, remove.keys)]
        self._entries.delete_packed(b"".join(keys))

    def _store(self, instruction: Instruction) -> None:
        match instruction:
            case Store(slot, version):
                self._subjects.store_u64(slot, _word(version), CURRENT)
            case Prepare(slot, version, epoch):
                self._subjects.store_u64(slot, _word(version), NEXT)
                self._subjects.store_u32(slot, epoch, EPOCH)
            case Switch(epoch):
                self._epoch.store_u32(0, epoch)
            case Forget(slot):
                self._subjects.store_u32(slot, 0, EPOCH)
            case Name(slot, identity):
                self.name(slot, identity)
            case _:
                raise ValueError(f"{instruction} blocks: it belongs in a worker thread")

    def read_entries(self, slot: int) -> dict[PolicyKey, PolicyEntry]:
        """Return the entries in force for one slot, as the kernel holds them."""
        epoch = self._subjects.load_u32(slot, EPOCH)
        word = self._subjects.load_u64(slot, NEXT if epoch and self.epoch >= epoch else CURRENT)
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
