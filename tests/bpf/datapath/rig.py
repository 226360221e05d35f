"""A node's data plane with maps written by hand, for tests and for bench.datapath.

Two pods live here (A and B), a third one (R) on another node, W somewhere in the world.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple

from cilia.abi import maps
from cilia.abi.codec import K, V
from cilia.abi.defaults import GATEWAY_MAC as GATEWAY_MAC
from cilia.abi.enums import (
    ChangePart,
    GatewayFamily,
    Hook,
    HostAddressKind,
    Identity,
    IpcacheFlag,
    PolicyDirection,
    PolicyLimit,
    PolicyShape,
)
from cilia.abi.offsets import PolicySlotOffset
from cilia.abi.structs import (
    EVENT,
    Block,
    Ct4Key,
    Ct6Key,
    CtEntry,
    Endpoint,
    EndpointKey,
    Event,
    HostAddressKey,
    IpcacheEntry,
    IpcacheKey,
    Metric,
    NatEntry,
    NatKey,
    NatPorts,
    PolicyEntry,
    PolicyKey,
    PolicyVersion,
)
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.maps import Map
from cilia.datapath.objects import OBJECTS, LoadedObject, LoadOptions, load
from cilia.datapath.per_cpu_map import PerCpuMap
from cilia.datapath.programs import RunResult, skb_context
from cilia.datapath.ring import RingBuffer
from tests.bpf.datapath.namespace import Namespace
from tools.build import build_objects

INGRESS, EGRESS = PolicyDirection.INGRESS, PolicyDirection.EGRESS
HOST, WORLD, REMOTE_NODE = Identity.HOST, Identity.WORLD, Identity.REMOTE_NODE
NODE, OTHER_NODE, GATEWAY = "192.0.2.1", "192.0.2.2", "10.1.0.1"
OTHER_BLOCKS: Final = ("10.2.0.0/24", "fd00:2::/64")
NODE6, OTHER_NODE6, GATEWAY6 = "2001:db8::1", "2001:db8::2", "fd00:1::1"
TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT = 0xFFFF_FFFF, 0, 2, 7
CURRENT, NEXT, EPOCH = PolicySlotOffset.CURRENT, PolicySlotOffset.NEXT, PolicySlotOffset.EPOCH
EVERY_SHAPE: Final = (1 << PolicyShape.SHAPES) - 1
SIZES: Final = {
    "cilia_ipcache": 64,
    "cilia_endpoints": 16,
    "cilia_policy": 1024,
    "cilia_ct4": 4096,
    "cilia_ct6": 4096,
    "cilia_fragments": 4096,
    "cilia_nat": 4096,
    "cilia_nat_turns": 4096,
}
PORTS: Final = (61_000, 65_535)
"""First and last port of mappings."""


class Pod(NamedTuple):
    """A pod as the tests know it, by one of its addresses; slot and device are 0 where it lives
    elsewhere.
    """

    address: str
    identity: int
    id: int = 0
    slot: int = 0
    mac: bytes = bytes(6)
    device: str = ""


A = Pod("10.1.0.10", 1001, 1, 1, bytes.fromhex("02aa00000001"), "lxc1")
B = Pod("10.1.0.11", 1002, 2, 2, bytes.fromhex("02bb00000002"), "lxc2")
R = Pod("10.2.0.10", 1003)
W = Pod("198.51.100.7", WORLD)
A6, B6 = A._replace(address="fd00:1::a"), B._replace(address="fd00:1::b")
R6, W6 = R._replace(address="fd00:2::a"), W._replace(address="2001:db8:f::7")


@dataclass
class Node:
    """One loaded data plane. Addresses are text, everything else as cilia.abi has it."""

    namespace: Namespace
    objects: LoadedObject
    devices: dict[str, int]
    variables: Mapping[str, int | bytes]

    def __post_init__(self) -> None:
        self.flows: Map[Ct4Key, CtEntry] = self.objects.map(maps.CT4)
        self.flows6: Map[Ct6Key, CtEntry] = self.objects.map(maps.CT6)
        self.fragments = self.objects.map(maps.FRAGMENTS)
        self.nat: Map[NatKey, NatEntry] = self.objects.map(maps.NAT)
        self.turns = self.objects.map(maps.NAT_TURNS)
        self.usage = self.objects.map(maps.NAT_USAGE)
        self.non_masquerade: Map[IpcacheKey, int] = self.objects.map(maps.NON_MASQUERADE)
        self.endpoints: Map[EndpointKey, Endpoint] = self.objects.map(maps.ENDPOINTS)
        self.ipcache: Map[IpcacheKey, IpcacheEntry] = self.objects.map(maps.IPCACHE)
        self.policy: Map[PolicyKey, PolicyEntry] = self.objects.map(maps.POLICY)
        self.metrics: PerCpuMap[int, Metric] = self.objects.per_cpu_map(maps.METRICS)
        with (
            self.objects.map(maps.POLICY_SLOTS) as slots,
            self.objects.map(maps.POLICY_EPOCH) as epoch,
            self.objects.map(maps.ADDRESSES) as addresses,
        ):
            self.slots, self.epoch = ArrayMemory(slots), ArrayMemory(epoch)
            self.addresses = ArrayMemory(addresses)
        with self.objects.map(maps.CHANGE) as change:
            self.change = ArrayMemory(change)
        self.ring = RingBuffer(self.objects.map_fd("cilia_events"), record_size=EVENT.size, limit=64)

    def close(self) -> None:
        for one in (
            self.flows,
            self.flows6,
            self.fragments,
            self.nat,
            self.turns,
            self.usage,
            self.non_masquerade,
            self.endpoints,
            self.ipcache,
            self.policy,
            self.metrics,
        ):
            one.close()
        for other in (self.slots, self.epoch, self.addresses, self.change, self.ring, self.objects):
            other.close()

    # entries that an agent would write

    def note_change(self) -> None:
        """Have what was denied decided anew, as the agent does after each change."""
        self.change.add_u32(0, ChangePart.DONE)

    def add_pod(self, pod: Pod, slot: int | None = None, flags: int = 0) -> None:
        """Make a local pod known, in place of what is known of its address."""
        slot = pod.slot if slot is None else slot
        value = Endpoint(self.devices[pod.device], pod.identity, pod.id, slot, pod.mac, flags)
        self.endpoints.update(EndpointKey(mapped(pod.address)), value)
        self.note_change()

    def set_gateways(self, ipv4: str, ipv6: str) -> None:
        """Write what pods have as their gateway."""
        with self.objects.map(maps.GATEWAYS) as gateways:
            gateways.update(GatewayFamily.IPV4, mapped(ipv4))
            gateways.update(GatewayFamily.IPV6, mapped(ipv6))

    def set_ports(self, first: int, last: int, lowest: int = 0, highest: int = 0) -> None:
        """Write which ports mappings take, and may have taken before."""
        with self.objects.map(maps.NAT_PORTS) as ports:
            ports.update(0, NatPorts(first, last, lowest or first, highest or last))

    def block(self, cidr: str, tunnel: str) -> None:
        """Write whose block of pods' addresses one is."""
        with self.objects.map(maps.BLOCKS) as blocks:
            blocks.update(prefix_key(cidr), Block(int(IPv4Address(tunnel))))
        self.note_change()

    def own(self, *addresses: str, kind: int = HostAddressKind.OWN) -> None:
        """Give this node addresses, or its networks broadcast addresses."""
        with self.objects.map(maps.HOST_ADDRESSES) as own:
            own.update_many((HostAddressKey(mapped(address)), kind) for address in addresses)
        self.note_change()

    def disown(self, address: str) -> None:
        """Take an address from this node."""
        with self.objects.map(maps.HOST_ADDRESSES) as own:
            own.delete(HostAddressKey(mapped(address)))
        self.note_change()

    def locate(self, prefix: str, identity: int, tunnel: str = "", *, routed: bool = False, owner: int = 0) -> None:
        """Write an entry of the ipcache; ``prefix`` with a length or an address."""
        node, flags = int(IPv4Address(tunnel)) if tunnel else 0, IpcacheFlag.ROUTED if routed else 0
        self.ipcache.update(prefix_key(prefix), IpcacheEntry(identity, node, flags, owner))
        self.note_change()

    def renew(self, address: str) -> None:
        """Have the flows of an address decided anew."""
        self.addresses.add_u32(int(ip_address(address)) % PolicyLimit.ADDRESS_BUCKETS)
        self.note_change()

    def allow(
        self,
        pod: Pod,
        direction: int,
        identity: int = 0,
        protocol: int = 0,
        port: int = 0,
        *,
        bits: int | None = None,
        precedence: int = 1,
        deny: bool = False,
        audit: bool = False,
        entry_set: int = 0,
        cookie: int = 7,
        is_member: bool = False,
    ) -> None:
        """Write one entry; ``bits`` of the port are given, by default all if there is a port and
        none if not.

        ``is_member``: it makes the peer a member of the set ``cookie``.
        """
        if bits is None:
            bits = 16 if port else 0
        shape = PolicyShape.PROTOCOL + bits if protocol else PolicyShape.ANY
        key = PolicyKey(pod.slot, entry_set, direction, identity, port, protocol, shape)
        self.policy.update(key, PolicyEntry(precedence, cookie, int(deny), int(audit), int(is_member)))
        self.note_change()

    def realise(
        self,
        slot: int,
        revision: int = 1,
        *,
        entry_set: int = 0,
        audit: bool = False,
        shapes: int = EVERY_SHAPE,
        named_only: int = 0,
    ) -> None:
        """Put a version of a subject's policy in force."""
        self.slots.store_u64(slot, version_word(revision, entry_set, audit, shapes, named_only), CURRENT)
        self.note_change()

    def prepare(self, slot: int, revision: int, epoch: int, *, entry_set: int) -> None:
        """Have a version come into force with an epoch."""
        self.slots.store_u64(slot, version_word(revision, entry_set), NEXT)
        self.slots.store_u32(slot, epoch, EPOCH)
        self.note_change()

    def switch(self, epoch: int) -> None:
        """Bring every prepared version into force."""
        self.epoch.store_u32(0, epoch)
        self.note_change()

    # runs and their outcome

    def run(self, program: str, packet: bytes, device: str = "lo", repeat: int = 1, *, gso_size: int = 0) -> RunResult:
        """Run a program on a packet as if it came by (or left by) a device of the node."""
        with self.namespace.inside():
            context = skb_context(ifindex=self.devices[device], gso_size=gso_size)
            return self.objects.program(program).test_run(packet, context, repeat)

    def events(self) -> list[Event]:
        """Take what was reported since the last call."""
        return list(Event.unpack_each(self.ring.drain().records))

    def counted(self, outcome: int, hook: int) -> int:
        """Return the packets counted under an outcome at a hook."""
        found = self.metrics.lookup(outcome * Hook.HOOKS + hook)
        return found.packets if found else 0

    def flow(self) -> tuple[Ct4Key, CtEntry]:
        """Return the only flow of IPv4."""
        (only,) = self.flows.items()
        return only

    def flow6(self) -> tuple[Ct6Key, CtEntry]:
        """Return the only flow of IPv6."""
        (only,) = self.flows6.items()
        return only


def prefix_key(prefix: str) -> IpcacheKey:
    """Return the key of an LPM map for a prefix with a length, or an address."""
    address, _, length = prefix.partition("/")
    bits = ip_address(address).max_prefixlen
    return IpcacheKey(128 - bits + int(length or bits), mapped(address))


def mapped(address: str) -> bytes:
    """Return an address of either family as ``struct address``."""
    packed = ip_address(address).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def version_word(
    revision: int, entry_set: int, audit: bool = False, shapes: int = EVERY_SHAPE, named_only: int = 0
) -> int:
    (word,) = struct.unpack("=Q", PolicyVersion(revision, entry_set, int(audit), named_only, shapes).pack())
    return int(word)


@contextmanager
def node(
    file: Path = OBJECTS / "cilia.o",
    *,
    ipv4: str = NODE,
    gateway: str = GATEWAY,
    pods: Sequence[Pod] = (A, B),
    max_entries: Mapping[str, int] = SIZES,
    has_overlay: bool = True,
    variables: Mapping[str, int | bytes] | None = None,
    pins: Path | None = None,
) -> Iterator[Node]:
    """Load the programs in a namespace with the pods' devices and an overlay; all maps are empty,
    or as pinned.

    The other end of device ``lxcN`` is ``plxcN``, in the same namespace.
    """
    build_objects()
    with Namespace() as namespace:
        link = namespace.netlink.link
        for pod in pods:
            link("add", ifname=pod.device, kind="veth", peer={"ifname": f"p{pod.device}"})
        link("add", ifname="overlay", kind="vxlan", vxlan_collect_metadata=True, vxlan_learning=False, vxlan_port=8472)
        link("add", ifname="uplink", kind="veth", peer={"ifname": "beyond"})
        devices = {name: namespace.ifindex(name) for name in ("lo", "overlay", "uplink", *(pod.device for pod in pods))}
        configured = {
            "node_ipv4": int(IPv4Address(ipv4)),
            "node_ipv6": mapped(NODE6),
            "overlay_ifindex": devices["overlay"] if has_overlay else 0,
            **(variables or {}),
        }
        loading = LoadOptions(variables=configured, max_entries=max_entries, pin_directory=pins)
        made = Node(namespace, load(file, loading), devices, configured)
        made.set_gateways(gateway, GATEWAY6)
        made.set_ports(*PORTS)
        made.own(ipv4, NODE6, gateway, GATEWAY6)
        try:
            yield made
        finally:
            made.close()


def populate(node: Node) -> None:
    """Make A, B, R and the world known, and the policies of A and B empty: they deny."""
    for pod in (A, B, A6, B6):
        node.add_pod(pod)
        node.locate(pod.address, pod.identity)
        node.realise(pod.slot)
    for remote in (R, R6):
        node.locate(remote.address, remote.identity, OTHER_NODE)
    for prefix, identity in (
        ("0.0.0.0/0", WORLD),
        ("::/0", WORLD),
    ):
        node.locate(prefix, identity)
    for own in (OTHER_NODE, OTHER_NODE6):
        node.locate(own, REMOTE_NODE, OTHER_NODE, routed=True)
    for block in OTHER_BLOCKS:
        node.block(block, OTHER_NODE)


def reset(node: Node) -> None:
    """Empty the maps that decide, and what was reported; counts of packets and of changed owners
    stay.
    """
    empty(node.flows)
    empty(node.flows6)
    empty(node.fragments)
    empty(node.nat)
    empty(node.turns)
    empty(node.non_masquerade)
    empty(node.policy)
    empty(node.endpoints)
    empty(node.ipcache)
    for slot in range(8):
        for offset in (CURRENT, NEXT, EPOCH):
            node.slots.store_u64(slot, 0, offset)
    node.epoch.store_u32(0, 0)
    while node.events():
        pass


def empty(table: Map[K, V]) -> None:
    table.delete_many(list(table.keys()))
