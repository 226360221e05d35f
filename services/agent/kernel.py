"""The maps of the data plane as the agent writes them: pure plans in, calls of bpf(2) out.

Every map here is pinned and outlives the agent; ``read_*`` gives back what a former agent left. Waiting for readers
blocks for an RCU grace period and is left to the caller's worker thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cilia.abi import maps
from cilia.abi.enums import EndpointFlag, PolicyLimit
from cilia.abi.structs import Endpoint as EndpointValue
from cilia.abi.structs import EndpointKey, IpcacheEntry, IpcacheKey, PolicyVersion
from cilia.abi.structs import PolicyEntry as EntryValue
from cilia.abi.structs import PolicyKey as EntryKey
from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.objects import LoadedObject
from cilia.datapath.words import SharedWords
from services.agent.endpoints import Pod
from services.agent.ipcache import Location
from services.agent.policy import (
    Forget,
    Held,
    Instruction,
    Prepare,
    Put,
    Remove,
    Store,
    Switch,
    Version,
    Wait,
)
from services.agent.prefixes import Prefix, packed, unpacked

CURRENT, NEXT, EPOCH, IDENTITY = 0, 8, 16, 20
"""Offsets in ``struct subject``."""
BATCH: Final = 4096

Sets = Mapping[tuple[int, int], Mapping[PolicyKey, PolicyEntry]]
"""Entries of cilia_policy by slot and set."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot of cilia_subjects says; identity 0: it is free, and its revision still counts."""

    identity: Identity
    held: Held


class PolicyMaps:
    """cilia_subjects, cilia_epoch and cilia_policy."""

    def __init__(self, objects: LoadedObject) -> None:
        self._entries, self._audited = objects.map(maps.POLICY), objects.map(maps.POLICY)
        with objects.map(maps.SUBJECTS) as subjects, objects.map(maps.EPOCH) as epoch:
            self._subjects, self._epoch = SharedWords(subjects), SharedWords(epoch)
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
        """The value of cilia_epoch."""
        return self._epoch.load_u32(0)

    def read(self) -> dict[int, Slot]:
        """Return the slots that a former agent left, each with one version in force and no pending switch.

        An agent that died between a switch and its cleanup leaves ``next`` in force; that is made ``current``. One that
        died before the switch leaves a ``next`` that a later epoch would bring into force; it is forgotten. The caller
        waits for readers before it changes anything.
        """
        sets = self.read_sets()
        slots = {}
        for slot in range(1, self.slots):
            identity = self._subjects.load_u32(slot, IDENTITY)
            version = self._settle(slot)
            entries = sets.get((slot, version.set), {})
            leftover = frozenset(sets.get((slot, version.set ^ 1), {}))
            if identity or version.revision or entries or leftover:
                slots[slot] = Slot(Identity(identity), Held(version, entries, leftover))
        return slots

    def read_sets(self) -> Sets:
        """Return all entries; to be called from one thread at a time, and that may be another than the writer's."""
        sets: dict[tuple[int, int], dict[PolicyKey, PolicyEntry]] = {}
        for key, value in self._audited.items():
            sets.setdefault((key.subject, key.set), {})[_key_of(key)] = _entry_of(value)
        return sets

    def version(self, slot: int) -> Version:
        """Return the ``current`` of a slot."""
        version = PolicyVersion.unpack(self._subjects.load_u64(slot, CURRENT).to_bytes(8, "little"))
        return Version(version.revision, version.set, version.shapes)

    def _settle(self, slot: int) -> Version:
        word = self._subjects.load_u64(slot, CURRENT)
        epoch = self._subjects.load_u32(slot, EPOCH)
        if epoch:
            if self.epoch >= epoch:
                word = self._subjects.load_u64(slot, NEXT)
                self._subjects.store_u64(slot, word, CURRENT)
            self._subjects.store_u32(slot, 0, EPOCH)
        version = PolicyVersion.unpack(word.to_bytes(8, "little"))
        return Version(version.revision, version.set, version.shapes)

    def name(self, slot: int, identity: Identity) -> None:
        """Note whose slot it is."""
        self._subjects.store_u32(slot, identity, IDENTITY)

    def perform(self, instructions: Iterable[Instruction]) -> None:
        """Carry instructions out, in order; Wait isn't among them.

        Raises:
            MapFull: The forecast was wrong: an entry found no room.
        """
        for instruction in instructions:
            match instruction:
                case Put(slot, entry_set, entries):
                    self._entries.update_many(
                        (_entry_key(slot, entry_set, key), _entry_value(entry)) for key, entry in entries.items()
                    )
                case Remove(slot, entry_set, keys):
                    self._entries.delete_many(_entry_key(slot, entry_set, key) for key in keys)
                case Store(slot, version):
                    self._subjects.store_u64(slot, _word(version), CURRENT)
                case Prepare(slot, version, epoch):
                    self._subjects.store_u64(slot, _word(version), NEXT)
                    self._subjects.store_u32(slot, epoch, EPOCH)
                case Switch(epoch):
                    self._epoch.store_u32(0, epoch)
                case Forget(slot):
                    self._subjects.store_u32(slot, 0, EPOCH)
                case Wait():
                    raise ValueError("waiting blocks: it belongs in a worker thread")

    def read_entries(self, slot: int) -> dict[PolicyKey, PolicyEntry]:
        """Return the entries in force for one slot, as the kernel holds them."""
        epoch = self._subjects.load_u32(slot, EPOCH)
        word = self._subjects.load_u64(slot, NEXT if epoch and self.epoch >= epoch else CURRENT)
        in_force = PolicyVersion.unpack(word.to_bytes(8, "little")).set
        return {
            _key_of(key): _entry_of(value)
            for key, value in self._entries.items()
            if key.subject == slot and key.set == in_force
        }


class AddressMaps:
    """cilia_ipcache, cilia_endpoints and cilia_addresses."""

    def __init__(self, objects: LoadedObject) -> None:
        self._ipcache = objects.map(maps.IPCACHE)
        self._endpoints = objects.map(maps.ENDPOINTS)
        with objects.map(maps.ADDRESSES) as addresses:
            self._addresses = SharedWords(addresses)

    def close(self) -> None:
        """Give maps and memory back."""
        self._ipcache.close()
        self._endpoints.close()
        self._addresses.close()

    def read_ipcache(self) -> dict[Prefix, Location]:
        """Return the ipcache's entries."""
        return {Prefix(unpacked(key.address), key.prefixlen): Location(*value) for key, value in self._ipcache.items()}

    def write_ipcache(self, changes: Mapping[Prefix, Location | None]) -> None:
        """Write and remove entries, then have the flows of their addresses decided anew.

        Raises:
            MapFull: No room; what comes before is written.
        """
        self._ipcache.update_many(
            (_ipcache_key(prefix), IpcacheEntry(location.identity, location.tunnel))
            for prefix, location in changes.items()
            if location is not None
        )
        self._ipcache.delete_many(_ipcache_key(prefix) for prefix, location in changes.items() if location is None)
        for prefix in changes:
            self.renew(prefix.address)

    def renew(self, address: int) -> None:
        """Have the flows of an address decided anew with their next packet."""
        self._addresses.add_u32(bucket_of(address))

    def read_endpoints(self) -> dict[int, EndpointValue]:
        """Return cilia_endpoints by address."""
        return {unpacked(key.address): value for key, value in self._endpoints.items()}

    def put_endpoint(self, pod: Pod, slot: int) -> None:
        """Make a pod known to the programs; slot 0: all of its packets are dropped."""
        mac = bytes.fromhex(pod.mac.replace(":", ""))
        flags = EndpointFlag.AUDIT if pod.audit else 0
        value = EndpointValue(pod.ifindex, pod.identity, pod.id, slot, mac, flags)
        for address in pod.numbers:
            self._endpoints.update(EndpointKey(packed(address)), value)

    def remove_endpoint(self, address: int) -> None:
        """Make an address of a pod unknown to the programs."""
        self._endpoints.delete(EndpointKey(packed(address)))


def bucket_of(address: int) -> int:
    """Return the index of an address in cilia_addresses, as bpf/lib computes it."""
    return address % PolicyLimit.ADDRESS_BUCKETS


def _word(version: Version) -> int:
    packed = PolicyVersion(version.revision, version.set, 0, version.shapes).pack()
    return int.from_bytes(packed, "little")


def _entry_key(slot: int, entry_set: int, key: PolicyKey) -> EntryKey:
    shape = 1 + key.port_bits if key.protocol else 0
    return EntryKey(slot, entry_set, int(key.egress), key.identity, key.port, key.protocol, shape)


def _key_of(key: EntryKey) -> PolicyKey:
    return PolicyKey(bool(key.direction), Identity(key.identity), key.protocol, key.port, max(0, key.shape - 1))


def _entry_value(entry: PolicyEntry) -> EntryValue:
    return EntryValue(
        entry.precedence, entry.peer_set or entry.cookie, int(entry.deny), int(entry.audit), int(entry.peer_set > 0)
    )


def _entry_of(value: EntryValue) -> PolicyEntry:
    cookie, peer_set = (0, value.cookie) if value.is_member else (value.cookie, 0)
    return PolicyEntry(bool(value.deny), value.precedence, cookie, bool(value.audit), peer_set)


def _ipcache_key(prefix: Prefix) -> IpcacheKey:
    return IpcacheKey(prefix.length, packed(prefix.address))
