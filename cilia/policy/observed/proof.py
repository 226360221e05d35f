"""Proof of proposed policies by the engine: recorded allowed flows pass, and nothing else that
could be tried does.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final

from cilia.contracts.flows import PolicyVerdict, RecordedPeer
from cilia.contracts.messages import Message
from cilia.policy.explain.packet import Packet
from cilia.policy.language.parse import parse_policies
from cilia.policy.observed.flows import ObservedFlow, name_of
from cilia.policy.observed.judge import FlowJudge
from cilia.policy.observed.proposal import WorkloadFilter, can_express, propose

MAX_PROBES: Final = 200_000
"""Number of flows that nobody recorded and that are tried, spread evenly."""
MAX_OPENED_LISTED: Final = 20


class ProbedFlow(Message, frozen=True):
    """A flow by the names of its ends."""

    source: str
    destination: str
    port: str
    side: str


class Proof(Message, frozen=True):
    """Proof of proposed policies by the engine.

    Attributes:
        kept: Sides of recorded allowed flows that they allow.
        lost: Those that they deny: the language can't name the port, or the flow crosses what can't
            be told apart.
        refused: Sides of flows that were denied, or that nobody recorded, and that they deny.
        opened: Some of those that they allow.
        opened_count: How many these are.
    """

    kept: int
    lost: tuple[ProbedFlow, ...]
    refused: int
    opened: tuple[ProbedFlow, ...]
    opened_count: int

    @property
    def is_exact(self) -> bool:
        """Tell whether the policies allow what was allowed, and nothing else that was tried."""
        return not self.lost and not self.opened_count


class Proposal(Message, frozen=True):
    """Policies as objects of their language, and what is proven of them."""

    policies: tuple[dict[str, Any], ...]
    proof: Proof


def generate(flows: Sequence[ObservedFlow], wanted: WorkloadFilter, *, max_prefixes: int) -> Proposal:
    """Propose policies and prove them; labels that tell copies apart are used only where it isn't
    exact without.

    Raises:
        BadPolicy: The language refuses what is proposed; that is a fault of ours.
        BadFlows: An end of a flow is none.
    """
    by_meaningful_labels, by_all_labels = (
        _prove(propose(flows, wanted, max_prefixes=max_prefixes, every_label=every), flows, wanted)
        for every in (False, True)
    )
    better = len(by_all_labels.proof.lost), by_all_labels.proof.opened_count
    return (
        by_all_labels
        if better < (len(by_meaningful_labels.proof.lost), by_meaningful_labels.proof.opened_count)
        else by_meaningful_labels
    )


def _prove(policies: Sequence[dict[str, Any]], flows: Sequence[ObservedFlow], wanted: WorkloadFilter) -> Proposal:
    parsed = parse_policies("\n---\n".join(map(json.dumps, policies)), source="proposal")
    judge = FlowJudge([each.policy for each in parsed])
    kept, refused = 0, 0
    lost: list[ProbedFlow] = []
    opened: list[ProbedFlow] = []
    allowed = set()
    for source, destination, packet, egress in _allowed_sides(flows, wanted):
        allowed.add((_party_key(source), _party_key(destination), packet, egress))
        if _passes(judge, source, destination, packet, egress):
            kept += 1
        else:
            lost.append(_describe(source, destination, packet, egress))
    for source, destination, packet, egress in _probes(flows, wanted):
        if (_party_key(source), _party_key(destination), packet, egress) in allowed:
            continue
        if _passes(judge, source, destination, packet, egress):
            opened.append(_describe(source, destination, packet, egress))
        else:
            refused += 1
    return Proposal(tuple(policies), Proof(kept, tuple(lost), refused, tuple(opened[:MAX_OPENED_LISTED]), len(opened)))


def _passes(judge: FlowJudge, source: RecordedPeer, destination: RecordedPeer, packet: Packet, egress: bool) -> bool:
    judged = judge.judge(source, destination, packet)
    return (judged.egress if egress else judged.ingress).allowed


def _allowed_sides(
    flows: Sequence[ObservedFlow], wanted: WorkloadFilter
) -> Iterator[tuple[RecordedPeer, RecordedPeer, Packet, bool]]:
    for flow in flows:
        if flow.verdict is PolicyVerdict.ALLOWED:
            for end, egress in ((flow.source, True), (flow.destination, False)):
                if wanted.admits(end):
                    yield flow.source, flow.destination, flow.packet, egress


def _probes(
    flows: Sequence[ObservedFlow], wanted: WorkloadFilter
) -> Iterator[tuple[RecordedPeer, RecordedPeer, Packet, bool]]:
    """Yield flows between any of the recorded ends at any of the recorded ports, and one beside
    each.
    """
    ends = {_party_key(end): end for flow in flows for end in (flow.source, flow.destination)}
    seen = {flow.packet for flow in flows}
    packets = sorted(
        seen | {Packet(packet.protocol, packet.port + 1) for packet in seen if packet.port < 65_535},
        key=lambda packet: (packet.protocol, packet.port),
    )
    packets = [packet for packet in packets if can_express(packet)]
    subjects = [end for end in ends.values() if wanted.admits(end)]
    step = max(1, 2 * len(subjects) * len(ends) * len(packets) // MAX_PROBES)
    for number, (subject, peer, packet, egress) in enumerate(product(subjects, ends.values(), packets, (True, False))):
        if number % step or subject == peer or (not egress and "reserved:host" in peer.labels):
            continue
        yield (subject, peer, packet, True) if egress else (peer, subject, packet, False)


def _party_key(end: RecordedPeer) -> tuple[tuple[str, ...], str]:
    """Return what policies can tell apart of an end."""
    return end.labels, end.address


def _describe(source: RecordedPeer, destination: RecordedPeer, packet: Packet, egress: bool) -> ProbedFlow:
    return ProbedFlow(name_of(source), name_of(destination), str(packet), "egress" if egress else "ingress")
