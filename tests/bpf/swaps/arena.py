"""Two sets of policies that replace each other while packets pass, and what must never be seen
then.

The client's egress and the server's ingress change together. The sets are such that any mixture
shows: a port that both sets deny, the one at the client, the other at the server, is open to who
sees one end's old policy and the other end's new one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Thread
from time import sleep
from typing import Final, NamedTuple

from cilia.abi.structs import Event
from cilia.contracts.ids import Identity
from cilia.contracts.labels import workload
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.programs import skb_context
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import IdentityPut, PolicyPut
from cilia.policy.language.parse import parse_policies
from services.agent.policy.maps import PolicyMaps
from tests.bpf.datapath import rig
from tests.bpf.datapath.packets import udp
from tests.bpf.datapath.rig import A, B, Node

OPEN, RED_ONLY, CLOSED_ON_BOTH_SIDES, CROSSED, RULED_OUT = 81, 82, 90, 91, 80
PORTS: Final = (OPEN, RED_ONLY, CLOSED_ON_BOTH_SIDES, CROSSED, RULED_OUT)
SENDERS: Final = 2
FLOWS: Final = 64
"""Source ports of each sender: some packets are of established flows, some of new ones."""

_POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: %s, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: %s}}, %s}
---"""


def _ports(*numbers: int) -> str:
    listed = ", ".join(f"{{port: '{number}', protocol: UDP}}" for number in numbers)
    return f"toPorts: [{{ports: [{listed}]}}]"


RED: Final = _POLICY % (
    "red-client",
    "client",
    f"egress: [{{toEndpoints: [{{}}]}}], egressDeny: [{{{_ports(RULED_OUT, CROSSED)}}}]",
) + _POLICY % ("red-server", "server", f"ingress: [{{{_ports(OPEN, RED_ONLY, CROSSED)}}}]")
BLUE: Final = _POLICY % ("blue-client", "client", f"egress: [{{{_ports(OPEN, CROSSED)}}}]") + _POLICY % (
    "blue-server",
    "server",
    f"ingress: [{{fromEndpoints: [{{}}]}}], ingressDeny: [{{{_ports(RULED_OUT, CROSSED)}}}]",
)

States = Mapping[int, Mapping[PolicyKey, PolicyEntry]]
"""Slot -> entries."""


class Seen(NamedTuple):
    """A verdict as it was reported."""

    port: int
    reason: int
    direction: int
    cookie: int


@dataclass
class Watch:
    """Verdicts that were seen, and those of them that belong to neither set."""

    legal: frozenset[Seen]
    passable: frozenset[int]
    """Ports that a set lets pass."""
    closable: frozenset[int]
    """Ports that a set closes."""
    packets: int = 0
    verdicts: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def see_packet(self, port: int, passed: bool) -> None:
        self.packets += 1
        if passed and port not in self.passable:
            self.wrong[f"port {port} was let through"] += 1
        elif not passed and port not in self.closable:
            self.wrong[f"port {port} was dropped"] += 1

    def see_verdict(self, seen: Seen) -> None:
        self.verdicts += 1
        if seen not in self.legal:
            self.wrong[f"mixed: {seen}"] += 1


def resolve(text: str) -> States:
    """Return the entries of client and server under some policies, as the policy service would."""
    engine = Engine()
    pods = {A: "client", B: "server"}
    engine.apply(IdentityPut(Identity(pod.identity), workload("shop", {"app": app})) for pod, app in pods.items())
    engine.apply([PolicyPut(each.policy) for each in parse_policies(text)])
    return {pod.slot: engine.map_state(Identity(pod.identity)) for pod in pods}


@dataclass
class Arena:
    """A data plane with client A and server B, and packets between them."""

    node: Node
    maps: PolicyMaps

    def send(self, port: int, sport: int) -> bool:
        """Send a packet, from within the namespace; tell whether it passed."""
        program = self.node.objects.program("from_pod")
        context = skb_context(ifindex=self.node.devices[A.device])
        return program.test_run(udp(A, B, sport, port), context).retval == rig.TC_ACT_REDIRECT

    def verdicts(self) -> list[Seen]:
        """Return what was reported since the last call."""
        found: list[Seen] = []
        while events := self.node.events():
            found += map(_seen, events)
        return found

    def outcomes(self) -> dict[int, tuple[bool, Seen]]:
        """Return whether each port passes now, and by which verdict; of new flows."""
        rig.empty(self.node.flows)
        with self.node.namespace.inside():
            passes = {port: self.send(port, 1) for port in PORTS}
        seen = {each.port: each for each in self.verdicts()}
        return {port: (passes[port], seen[port]) for port in PORTS}

    @contextmanager
    def traffic(self, watch: Watch) -> Iterator[None]:
        """Send all the while, from before the block on; verdicts are the caller's to take."""
        stop = Flag()
        watch.packets = 0
        senders = [Thread(target=self._keep_sending, args=(watch, number, stop)) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            while watch.packets < SENDERS * FLOWS * len(PORTS) and all(sender.is_alive() for sender in senders):
                sleep(0.01)
            yield
        finally:
            stop.set()
            for sender in senders:
                sender.join()

    def _keep_sending(self, watch: Watch, number: int, stop: Flag) -> None:
        program = self.node.objects.program("from_pod")
        context = skb_context(ifindex=self.node.devices[A.device])
        frames = [(port, udp(A, B, 2000 + number * FLOWS + flow, port)) for flow in range(FLOWS) for port in PORTS]
        with self.node.namespace.inside():
            while not stop.is_set():
                for port, frame in frames:
                    watch.see_packet(port, program.test_run(frame, context).retval == rig.TC_ACT_REDIRECT)


def _seen(event: Event) -> Seen:
    return Seen(event.port[1], event.reason, event.direction, event.cookie)


@contextmanager
def arena() -> Iterator[Arena]:
    """Load the data plane; nothing is realised yet."""
    with rig.node() as node:
        rig.populate(node)
        for pod in (A, B):
            node.slots.store_u64(pod.slot, 0, rig.CURRENT)
        maps = PolicyMaps(node.objects)
        try:
            yield Arena(node, maps)
        finally:
            maps.close()
