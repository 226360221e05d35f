"""Flow by flow: the programs against explanation, what-if and map state; the first difference ends
it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from random import Random
from typing import Final, NamedTuple

from cilia.abi.enums import DropReason, EventKind, PolicyDirection
from cilia.abi.structs import Event
from cilia.contracts.direction import Direction
from cilia.contracts.explanations import Explained, Side, VerdictReason
from cilia.contracts.flows import RecordedPeer
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import Label
from cilia.contracts.tables import policy_cookie
from cilia.policy.engine.options import Options
from cilia.policy.explain.explanation import explain
from cilia.policy.explain.judgement import Judge, Judgement
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import Party, party_of_address, party_of_identity
from cilia.policy.observed.judge import FlowJudge
from cilia.policy.simulate.cluster import DescribedCluster, build_cluster
from tests.bpf.agreement.draw import LOCAL_PODS, OUTSIDERS, PORTS, draw
from tests.bpf.agreement.kernel import PODS, SIZES, Kernel
from tests.bpf.datapath.rig import NODE, node

FLOWS_PER_WORLD: Final = 500
ECHO: Final = 8


class Difference(AssertionError):
    """The programs did something else than was said."""

    def __init__(self, what: str, got: object, said: object, where: str) -> None:
        super().__init__(f"{what}: the kernel {got}, said {said}; {where}")


class Participant(NamedTuple):
    """Parties of random flows."""

    name: str
    address: str
    end: Party
    flow_end: RecordedPeer
    is_local: bool


@contextmanager
def laboratory() -> Iterator[Kernel]:
    """Give a node with the local pods' devices and empty maps."""
    with node(pods=PODS, max_entries=SIZES, variables={"is_native": 1}) as made:
        kernel = Kernel.over(made)
        try:
            yield kernel
        finally:
            kernel.close()


def run(kernel: Kernel, seed: int, flows: int) -> Counter[str]:
    """Compare on so many flows.

    Args:
        seed: Draws the same clusters and flows again; a difference names it.

    Returns:
        How many flows had which verdict, by side and reason.

    Raises:
        Difference: In verdict, side, reason or deciding policy.
    """
    pick, outcomes, number = Random(seed), Counter[str](), 0
    while flows > 0:
        number += 1
        world = build_cluster(draw(pick))
        kernel.realise(world)
        trial = Trial(kernel, world, f"seed {seed}, cluster {number}")
        for _ in range(min(flows, FLOWS_PER_WORLD)):
            outcomes[trial.compare_one(pick)] += 1
        flows -= FLOWS_PER_WORLD
    return outcomes


class Trial:
    """One cluster, in the kernel and in the engine."""

    def __init__(self, kernel: Kernel, world: DescribedCluster, where: str) -> None:
        self._kernel = kernel
        self._world = world
        self._where = where
        self._keys = {policy_cookie(key): key for key in world.policies}
        self._judge = Judge(world.engine)
        self._has_audits = any(spec.audit for policy in world.policies.values() for spec in policy.specs)
        self._outlook = FlowJudge(world.policies.values(), Options(mode=world.engine.mode))
        self._parties = [*self._pods(), *map(self._outsider, OUTSIDERS), self._host()]

    def _pods(self) -> Iterator[Participant]:
        for number, pod in enumerate(self._world.description.pods):
            name = f"{pod.namespace}/{pod.name}"
            end = party_of_identity(self._world.engine, self._world.pods[name], name)
            labels = sorted(
                str(Label(source, key, value)) for (source, key), value in end.peer.labels.items() if source != "any"
            )
            ports = tuple((port.name, {6: "TCP", 17: "UDP"}[port.protocol], port.port) for port in end.peer.ports)
            prefixes = tuple(map(str, end.peer.prefixes))
            flow_end = RecordedPeer(tuple(labels), name, ports=ports, prefixes=prefixes)
            yield Participant(name, pod.addresses[0], end, flow_end, number < LOCAL_PODS)

    def _outsider(self, address: str) -> Participant:
        end = party_of_address(self._world.engine, ip_network(address))
        return Participant(address, address, end, RecordedPeer(("reserved:world",), address=address), False)

    def _host(self) -> Participant:
        end = party_of_identity(self._world.engine, Identity(Reserved.HOST), "host")
        return Participant("host", NODE, end, RecordedPeer(("reserved:host",)), False)

    def compare_one(self, pick: Random) -> str:
        """Draw a flow, send it, compare; returns how it went."""
        source, destination = pick.sample(self._parties, 2)
        while not source.is_local and not destination.is_local:
            source, destination = pick.sample(self._parties, 2)
        protocol = pick.choices((6, 17, 1), (5, 4, 1))[0]
        port = ECHO if protocol == 1 else pick.choice(PORTS) if pick.random() < 0.9 else pick.randrange(1, 65_536)
        where = f"{self._where}: {source.name} -> {destination.name} {port}/{protocol}"
        event = self._kernel.send(source.address, destination.address, protocol, port)
        packet = Packet(protocol, port)
        said = explain(Judge(self._world.engine), source.end, destination.end, packet)
        self._compare_explained(event, said, source, destination, where)
        judged = self._outlook.judge(source.flow_end, destination.flow_end, packet)
        self._compare_what_if(judged, said, where)
        self._compare_entry(event, source, destination, packet, where)
        verdict = "dropped" if event.kind == EventKind.DROP else "audited" if event.audited else "forwarded"
        return f"{verdict} by {'a policy' if event.cookie else 'default'}"

    def _compare_explained(
        self, event: Event, said: Explained, source: Participant, destination: Participant, where: str
    ) -> None:
        asked = [side for side, party in ((said.egress, source), (said.ingress, destination)) if party.is_local]
        stopped = next((side for side in asked if not side.allowed), None)
        deciding = stopped or asked[-1]
        direction = "egress" if event.direction == PolicyDirection.EGRESS else "ingress"
        if (event.kind == EventKind.DROP, direction) != (stopped is not None, deciding.direction):
            raise Difference("verdict and side", (event.kind, event.reason, direction), deciding, where)
        audited = any(side.audited for side in asked if stopped is None)
        if stopped is None and bool(event.audited) != audited:
            raise Difference("audit", bool(event.audited), audited, where)
        if stopped is not None:
            reason = DropReason.DENIED_BY_RULE if stopped.because is VerdictReason.RULE else DropReason.POLICY_DENIED
            if event.reason != reason:
                raise Difference("reason", event.reason, stopped, where)
        ends = (source, destination) if deciding is said.egress else (destination, source)
        self._compare_policy(event.cookie, deciding, *ends, where)

    def _compare_policy(self, cookie: int, side: Side, subject: Participant, peer: Participant, where: str) -> None:
        """Hold the policy that the kernel names against the rules that are said to decide.

        Where the direction is open anyway, or open to the node, an allow rule changes nothing and
        has no entry of its own: then no policy is named. What an audited policy denies by default
        has an entry of its own: then that policy is.
        """
        policies = {place.policy for place in side.rules} | (set(side.isolated_by) if side.audited else set())
        if cookie and self._keys[cookie] not in policies:
            raise Difference("policy", self._keys[cookie], side, where)
        closed = self._judge.applying(subject.end).isolated_by[side.direction == "egress"]
        from_node = side.direction is Direction.INGRESS and peer.name == "host"
        needless = side.allowed and (not closed or side.audited or from_node)
        if not cookie and side.because is VerdictReason.RULE and not needless and not self._has_audits:
            raise Difference("policy", "none", side, where)

    def _compare_entry(
        self, event: Event, source: Participant, destination: Participant, packet: Packet, where: str
    ) -> None:
        """Hold the event against what the map state's entries decide."""
        ends = self._world.find(source.name), self._world.find(destination.name)
        found = self._world.judge(*ends, protocol=packet.protocol, port=packet.port)
        sides = [side for side, party in ((found.egress, source), (found.ingress, destination)) if party.is_local]
        deciding = next((side for side in sides if side and not side.allowed), sides[-1])
        if deciding is None or (event.kind != EventKind.DROP, event.cookie) != (deciding.allowed, deciding.cookie):
            raise Difference("entry", (event.kind, event.cookie), deciding, where)

    def _compare_what_if(self, judged: Judgement, said: Explained, where: str) -> None:
        for one, other in ((judged.egress, said.egress), (judged.ingress, said.ingress)):
            if (one.allowed, one.because, one.rules) != (other.allowed, other.because, other.rules):
                raise Difference("what-if", one, other, where)
