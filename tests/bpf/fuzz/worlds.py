"""Random contents of the maps, written into a node and into the model alike, and changes as the
agent makes them.
"""

from ipaddress import IPv4Address, ip_address, ip_network
from random import Random
from typing import Final

from cilia.abi.enums import PolicyLimit, PolicyPrecedence, PolicyShape
from cilia.abi.structs import PolicyEntry, PolicyKey
from tests.bpf.datapath.rig import (
    A6,
    B6,
    CURRENT,
    EPOCH,
    EVERY_SHAPE,
    GATEWAY,
    GATEWAY6,
    HOST,
    NEXT,
    NODE,
    NODE6,
    OTHER_NODE,
    OTHER_NODE6,
    R6,
    REMOTE_NODE,
    W6,
    WORLD,
    A,
    B,
    Node,
    Pod,
    R,
    W,
    mapped,
    version_word,
)
from tests.bpf.fuzz.model import Model
from tests.bpf.fuzz.outcomes import End
from tests.bpf.fuzz.policy import Version

C: Final = Pod("10.1.0.12", 1001, 3, 1, bytes.fromhex("02cc00000003"), "lxc3")
"""A second pod of A's identity."""
C6: Final = C._replace(address="fd00:1::c")
PODS: Final = (A, B, C)
PODS6: Final = (A6, B6, C6)
ADDRESSES: Final = (
    *(pod.address for pod in (*PODS, R, W)),
    *(NODE, GATEWAY, OTHER_NODE),
    *("10.2.7.7", "10.1.0.50"),  # a stranger, and a pod that is gone
)
ADDRESSES6: Final = (
    *(pod.address for pod in (*PODS6, R6, W6)),
    *(NODE6, GATEWAY6, OTHER_NODE6),
    *("fd00:2::77", "fd00:1::50"),
)
IDENTITIES: Final = (0, HOST, WORLD, REMOTE_NODE, A.identity, B.identity, R.identity, 1007, 1 << 24 | 5, 2 << 24 | 5)
PEER_SETS: Final = (1 << 31 | 1, 1 << 31 | 2)
PROTOCOLS: Final = (1, 6, 17)
PROTOCOLS6: Final = (58, 6, 17)
PORTS: Final = (0, 8, 53, 128, 80, 81, 443, 40000, 40001, 65535)
SLOTS: Final = 4


def as_number(address: str) -> int:
    """Return an address as the maps have it, as a number."""
    return int.from_bytes(mapped(address), "big")


class World:
    """One node and its model; each method changes both."""

    def __init__(self, node: Node, random: Random) -> None:
        self._node, self._random = node, random
        self._revision = 0
        own = frozenset(map(as_number, (NODE, GATEWAY, NODE6, GATEWAY6)))
        self.model = Model(own, as_number(GATEWAY), as_number(GATEWAY6), node.devices["overlay"])
        for pod in (*PODS, *PODS6):
            self.place(pod)
        if random.random() < 0.5:
            self.open()
        for slot in range(1, SLOTS):
            self.realise(slot)
        for _ in range(random.choice((0, 20, 200))):
            self.rule()
        for _ in range(random.randrange(8)):
            self.locate()

    def open(self) -> None:
        """Allow what no other entry denies, so that how a packet is read tells in flows."""
        for slot in range(1, SLOTS):
            for entry_set, direction in ((0, 0), (0, 1), (1, 0), (1, 1)):
                key, entry = PolicyKey(slot, entry_set, direction, 0, 0, 0, 0), PolicyEntry(1, 1, 0, 0, 0)
                self._node.policy.update(key, entry)
                self.model.entries[key] = entry

    def change(self) -> None:
        """Do one thing that the agent might do."""
        self.change_something()
        self._node.note_change()
        self.model.changes_made += 1

    def change_something(self) -> None:
        kind = min(self._random.randrange(12), 6)
        slot = self._random.randrange(1, SLOTS)
        match kind:
            case 0:
                self.place(self._random.choice((*PODS, *PODS6)))
            case 1:
                self.locate()
            case 2:
                self.rule()
                self.realise(slot)
            case 3:
                self.rule()
                self.prepare(slot)
            case 4:
                self.model.epoch += 1
                self._node.epoch.store_u32(0, self.model.epoch)
            case 5:
                self.withdraw(slot)
            case 6:
                self.realise(slot)

    def place(self, pod: Pod) -> None:
        """Make a pod known, sometimes under another slot, or unknown to policy."""
        slot = self._random.choice((*(pod.slot,) * 8, 3, 0))
        address = as_number(pod.address)
        self._node.add_pod(pod, slot)
        ifindex = self._node.devices[pod.device]
        self.model.pods[address] = End(address, pod.identity, ifindex, slot=slot, id=pod.id, mac=pod.mac)
        self.renew(pod.address)

    def locate(self) -> None:
        """Say of a prefix who lives there."""
        address = self._random.choice((*ADDRESSES, *ADDRESSES6))
        bits = ip_address(address).max_prefixlen
        cut = self._random.choice((bits, bits - 8, 24, 16, 8, 1, *(0,) * 4))
        prefix = ip_network((address, bits - cut), strict=False)
        identity = self._random.choice(IDENTITIES[1:])
        tunnel = self._random.choice(("", OTHER_NODE, "192.0.2.3"))
        routed = self._random.random() < 0.3
        self._node.locate(str(prefix), identity, tunnel, routed=routed)
        where = as_number(str(prefix.network_address)), 128 - cut
        self.model.ipcache[where] = identity, int(IPv4Address(tunnel)) if tunnel else 0, routed
        self.renew(address)

    def renew(self, address: str) -> None:
        self._node.renew(address)
        bucket = as_number(address) % PolicyLimit.ADDRESS_BUCKETS
        self.model.owners[bucket] = self.model.owners.get(bucket, 0) + 1

    def rule(self) -> None:
        """Write one entry, of any shape, into either set."""
        pick = self._random
        shape = pick.choice((0, 1, 1 + pick.randrange(17), PolicyShape.PORT))
        free = 17 - shape
        port = pick.choice(PORTS) >> free << free if shape else 0
        protocol = pick.choice((*PROTOCOLS, 58)) if shape else 0
        slot, entry_set, direction = pick.randrange(1, SLOTS), pick.randrange(2), pick.randrange(2)
        named = (*IDENTITIES[1:], *PEER_SETS)
        peers = named if self.is_named_only(slot, entry_set, direction) else (0, *IDENTITIES, *PEER_SETS)
        key = PolicyKey(slot, entry_set, direction, pick.choice(peers), port, protocol, shape)
        precedence = pick.choice((1, 1, 2, 3, PolicyPrecedence.DENY))
        entry = PolicyEntry(precedence, pick.randrange(9), int(pick.random() < 0.25), int(pick.random() < 0.1), 0)
        if not shape and key.identity and pick.random() < 0.7:
            entry = PolicyEntry(0, pick.choice(PEER_SETS), 0, 0, 1)
        self._node.policy.update(key, entry)
        self.model.entries[key] = entry

    def is_named_only(self, slot: int, entry_set: int, direction: int) -> bool:
        """Tell whether a version says that such entries are for named peers only."""
        _, coming = self.model.coming.get(slot, (0, None))
        versions = [version for version in (self.model.current.get(slot), coming) if version]
        return any(each.entry_set == entry_set and each.named_only >> direction & 1 for each in versions)

    def version(self, slot: int) -> Version:
        """Make a version that is newer than all; it looks at all shapes, or misses some."""
        self._revision += 1
        shapes = EVERY_SHAPE if self._random.random() < 0.7 else self._random.randrange(EVERY_SHAPE + 1)
        entry_set = self._random.randrange(2)
        for_any = {(key.slot, key.set, key.direction) for key in self.model.entries if not key.identity}
        is_named = [(slot, entry_set, direction) not in for_any for direction in (0, 1)]
        named_only = (is_named[0] | is_named[1] << 1) & self._random.randrange(4)
        return Version(self._revision, entry_set, self._random.random() < 0.1, shapes, named_only)

    def realise(self, slot: int) -> None:
        version = self.version(slot)
        self.forget(slot)
        self._node.slots.store_u64(slot, version_word(*version), CURRENT)
        self.model.current[slot] = version

    def withdraw(self, slot: int) -> None:
        self.forget(slot)
        self._node.slots.store_u64(slot, 0, CURRENT)
        self.model.current.pop(slot, None)

    def forget(self, slot: int) -> None:
        """End a switch as the agent does before it begins another: no older revision ever comes
        back into force.
        """
        epoch, version = self.model.coming.pop(slot, (0, None))
        if version and self.model.epoch >= epoch:
            self.model.current[slot] = version
            self._node.slots.store_u64(slot, version_word(*version), CURRENT)
        self._node.slots.store_u32(slot, 0, EPOCH)

    def prepare(self, slot: int) -> None:
        """Have a version come into force with the epoch after this one."""
        self.forget(slot)
        version, epoch = self.version(slot), self.model.epoch + 1
        self._node.slots.store_u64(slot, version_word(*version), NEXT)
        self._node.slots.store_u32(slot, epoch, EPOCH)
        self.model.coming[slot] = epoch, version
