"""A node whose maps hold a described cluster: entries written by the agent's own code, as its plans
say.
"""

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_network
from itertools import count

from cilia.abi.structs import Event
from cilia.contracts.ids import Identity
from cilia.policy.engine.rules import Prefix as Network
from cilia.policy.simulate.cluster import DescribedCluster
from services.agent.address import Prefix, prefix
from services.agent.ipcache.desired import Location
from services.agent.ipcache.maps import IpcacheMap
from services.agent.ipcache.revisions import AddressRevisions
from services.agent.policy.instructions import UNREALISED, AwaitGracePeriod, RealisedPolicy
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.plan import Change, plan, plan_release
from tests.bpf.agreement.draw import LOCAL_PODS
from tests.bpf.datapath.rig import HOST, NODE, WORLD, Node, Pod, empty

PODS = tuple(
    Pod(f"10.1.0.{10 + number}", 0, number + 1, 0, bytes((2, 0, 0, 0, 0, number + 1)), f"lxc{number + 1}")
    for number in range(LOCAL_PODS)
)
SIZES = {
    "cilia_ipcache": 64,
    "cilia_endpoints": 32,
    "cilia_policy": 65536,
    "cilia_ct4": 65536,
    "cilia_ct6": 1024,
    "cilia_fragments": 1024,
    "cilia_nat": 1024,
}
FIRST_SOURCE_PORT = 20_000


@dataclass
class Kernel:
    """The maps of a node, through the agent's writers.

    ``held`` goes from cluster to cluster, as in an agent's life.
    """

    node: Node
    policy: PolicyMaps
    ipcache: IpcacheMap
    revisions: AddressRevisions
    held: dict[int, RealisedPolicy] = field(default_factory=dict)
    policy_epoch: int = 0
    ports: "count[int]" = field(default_factory=lambda: count(FIRST_SOURCE_PORT))

    @classmethod
    def over(cls, node: Node) -> "Kernel":
        """Write the maps of a loaded data plane."""
        revisions = AddressRevisions(node.objects)
        return cls(node, PolicyMaps(node.objects), IpcacheMap(node.objects, revisions), revisions)

    def close(self) -> None:
        """Give the maps back."""
        self.policy.close()
        self.ipcache.close()
        self.revisions.close()

    def realise(self, world: DescribedCluster) -> None:
        """Bring a cluster into the maps: places of addresses, pods, and each subject's map state by
        a switch.
        """
        empty(self.node.flows)
        empty(self.node.endpoints)
        empty(self.node.ipcache)
        self.ipcache.write(dict(self._locations(world)))
        slots = self._slots(world)
        for pod in PODS:
            identity = _identity_at(world, pod.address)
            self.node.add_pod(pod._replace(identity=identity), slots[identity])
        self._switch(world, slots)
        while self.node.events():
            pass

    def _slots(self, world: DescribedCluster) -> dict[Identity, int]:
        identities = dict.fromkeys(_identity_at(world, pod.address) for pod in PODS)
        return {identity: slot for slot, identity in enumerate(identities, 1)}

    def _switch(self, world: DescribedCluster, slots: dict[Identity, int]) -> None:
        changes = [
            Change(slot, identity, self.held.get(slot, UNREALISED), world.engine.map_state(identity))
            for identity, slot in slots.items()
        ]
        planned = plan(changes, policy_epoch=self.policy_epoch, free=self.policy.capacity)
        assert not planned.refused
        self.policy.perform(planned.visible)
        self.policy.perform(step for step in planned.cleanup if not isinstance(step, AwaitGracePeriod))
        self.held |= planned.after
        self.policy_epoch = planned.policy_epoch
        for slot in self.held.keys() - set(slots.values()):
            gone = plan_release(slot, self.held[slot])
            self.policy.perform(
                step for step in (*gone.visible, *gone.cleanup) if not isinstance(step, AwaitGracePeriod)
            )
            self.held |= gone.after

    def _locations(self, world: DescribedCluster) -> list[tuple[Prefix, Location]]:
        """Return the ipcache: pods, this node, the prefixes that policies name, and the world."""
        found = [(prefix("0.0.0.0/0"), Location(WORLD))]
        found += [(prefix(str(each)), Location(world.identity_of(each))) for each in named_prefixes(world)]
        for pod in world.description.pods:
            for address in pod.addresses:
                found.append((prefix(f"{address}/32"), Location(world.pods[f"{pod.namespace}/{pod.name}"])))
        return [*found, (prefix(f"{NODE}/32"), Location(HOST))]

    def send(self, source: str, destination: str, protocol: int, port: int) -> Event:
        """Have the first packet of a new flow decided; returns what is reported about it."""
        frame = build(source, destination, protocol, next(self.ports) % 40_000 + FIRST_SOURCE_PORT, port)
        local = {pod.address: pod.device for pod in PODS}
        if source in local:
            self.node.run("from_pod", frame, local[source])
        else:
            self.node.run("to_pod", frame, local[destination])
        (event,) = self.node.events()
        return event


def named_prefixes(world: DescribedCluster) -> set[Network]:
    """Return the prefixes that have an identity of their own."""
    found = {each for policy in world.policies.values() for each in policy.prefixes}
    return {each for each in found if each.prefixlen}


def _identity_at(world: DescribedCluster, address: str) -> Identity:
    for pod in world.description.pods:
        if address in pod.addresses:
            return world.pods[f"{pod.namespace}/{pod.name}"]
    return world.identity_of(ip_network(address))


def build(source: str, destination: str, protocol: int, source_port: int, port: int) -> bytes:
    """Return a frame that begins a flow; checksums are 0, which the programs don't look at."""
    match protocol:
        case 6:
            payload = struct.pack(">HHIIBBHHH", source_port, port, 1, 0, 0x50, 0x02, 64240, 0, 0)
        case 17:
            payload = struct.pack(">HHHH", source_port, port, 8, 0)
        case _:
            payload = struct.pack(">BBHHH", port, 0, 0, source_port, 1)
    payload += bytes(16)
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
    mac = next((pod.mac for pod in PODS if pod.address == source), bytes(6))
    return bytes.fromhex("020000000099") + mac + b"\x08\0" + head + ends + payload
