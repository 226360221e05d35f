"""Model of the kernel's side of bpf/maps/policy.h: maps, words, lookup, programs that lag."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cilia.contracts.tables import PolicyEntry, PolicyKey
from services.agent.policy.instructions import (
    AwaitGracePeriod,
    ClearNextVersion,
    DeleteEntries,
    Instruction,
    PutEntries,
    RealisedPolicy,
    StoreNextVersion,
    StorePolicyEpoch,
    StoreVersion,
    Version,
    shape_of,
)

UNSET = Version()


class Packet(NamedTuple):
    egress: bool
    identity: int
    protocol: int
    port: int


@dataclass
class Word:
    current: Version = UNSET
    next: Version = UNSET
    policy_epoch: int = 0


def longest(entries: Mapping[PolicyKey, PolicyEntry], packet: Packet, identity: int, shapes: int) -> PolicyKey | None:
    for shape in range(17, -1, -1):
        if not shapes >> shape & 1:
            continue
        bits = max(shape - 1, 0)
        mask = 0xFFFF << (16 - bits) & 0xFFFF
        protocol = packet.protocol if shape else 0
        key = PolicyKey(packet.egress, identity, protocol, packet.port & mask, bits)  # type: ignore[arg-type]
        if key in entries:
            return key
    return None


def verdict(entries: Mapping[PolicyKey, PolicyEntry], packet: Packet, shapes: int, named_only: int = 0) -> str:
    """Allow, audit or deny, as the lookup of bpf/maps/policy.h gives it."""
    own = entries.get(PolicyKey(packet.egress, packet.identity, 0, 0, 0)) if shapes & 1 else None  # type: ignore[arg-type]
    peer = own.peer_set if own and own.peer_set else packet.identity
    peers = (peer,) if named_only >> packet.egress & 1 else (peer, 0)
    found = [longest(entries, packet, identity, shapes) for identity in peers]
    keys = [key for key in found if key is not None]
    if not keys:
        return "deny"
    best = max(keys, key=lambda key: (entries[key].precedence, shape_of(key), key.identity != 0))
    return "deny" if entries[best].deny else "audit" if entries[best].audit else "allow"


@dataclass
class Kernel:
    """Entries by (slot, set) and words by slot; what a lagging program may read is not touched."""

    entries: dict[tuple[int, int], dict[PolicyKey, PolicyEntry]] = field(default_factory=dict)
    words: dict[int, Word] = field(default_factory=dict)
    policy_epoch: int = 0
    lagging: set[tuple[int, int]] = field(default_factory=set)
    lagging_next: set[int] = field(default_factory=set)

    @classmethod
    def holding(cls, states: Mapping[int, RealisedPolicy], policy_epoch: int) -> "Kernel":
        kernel = cls(policy_epoch=policy_epoch)
        for slot, realised in states.items():
            kernel.words[slot] = Word(current=realised.version)
            kernel.entries[slot, realised.version.set] = dict(realised.entries)
            any_entry = PolicyEntry(True, 0xFFFFFFFF)
            kernel.entries[slot, realised.version.set ^ 1] = dict.fromkeys(realised.leftover, any_entry)
        return kernel

    def version(self, slot: int) -> Version:
        word = self.words[slot]
        return word.next if word.policy_epoch and self.policy_epoch >= word.policy_epoch else word.current

    def verdict(self, slot: int, packet: Packet) -> str:
        version = self.version(slot)
        if not version.revision:
            return "deny"
        return verdict(self.entries.get((slot, version.set), {}), packet, version.shapes, version.named_only)

    def run(self, instructions: tuple[Instruction, ...]) -> Iterator[None]:
        """Perform instructions, pausing after every store that a packet could see."""
        for instruction in instructions:
            for _ in self._perform(instruction):
                yield

    def _perform(self, instruction: Instruction) -> Iterator[None]:
        before = {slot: self.version(slot) for slot in self.words}
        match instruction:
            case PutEntries(slot, entry_set, entries):
                assert (slot, entry_set) not in self.lagging
                for key, entry in entries.items():
                    self.entries.setdefault((slot, entry_set), {})[key] = entry
                    yield
            case DeleteEntries(slot, entry_set, keys):
                assert (slot, entry_set) not in self.lagging
                for key in keys:
                    del self.entries[slot, entry_set][key]
                    yield
            case StoreVersion(slot, version):
                self.words[slot].current = version
            case StoreNextVersion(slot, version, policy_epoch):
                assert slot not in self.lagging_next
                assert self.words[slot].policy_epoch == 0
                assert policy_epoch > self.policy_epoch
                self.words[slot].next = version
                yield
                self.words[slot].policy_epoch = policy_epoch
            case StorePolicyEpoch(policy_epoch):
                self.policy_epoch = policy_epoch
            case ClearNextVersion(slot):
                self.words[slot].policy_epoch = 0
                self.lagging_next.add(slot)
            case AwaitGracePeriod():
                self.lagging.clear()
                self.lagging_next.clear()
        for slot, version in before.items():
            if not version.shapes:  # a program with that version looks nothing up
                continue
            if self.version(slot).set != version.set or self.version(slot).shapes == 0:
                self.lagging.add((slot, version.set))
        yield

    def count(self) -> int:
        return sum(map(len, self.entries.values()))
