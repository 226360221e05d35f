"""Explanations of verdicts, from the rules themselves.

This doesn't look at map states. So it can name all rules that decide, tell what is missing where
none does, and, since it must agree with the map states always, each of the two proves the other.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import structs

from cilia.contracts.direction import Direction
from cilia.contracts.explanations import Criterion, Explained, ExplainFlow, Mismatch, NearRule, Side
from cilia.contracts.protocols import protocol_name
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.groups import lookup_in
from cilia.policy.engine.mapstate import NameLookup
from cilia.policy.engine.rules import Rule, Spec
from cilia.policy.explain.judgement import Judge
from cilia.policy.explain.mismatch import differ_from_peers, differ_from_ports, differ_from_selector
from cilia.policy.explain.packet import Packet, read_port
from cilia.policy.explain.parties import Directory, Party, UnknownParty, find_parties
from cilia.policy.explain.suggestion import allow_policy

MOST_NEAR: Final = 3
SUBJECT_WEIGHT: Final = 2
"""A policy for somebody else is less likely what its author meant than a rule for another peer or
port.
"""
NOBODY_WEIGHT: Final = 1_000
"""A rule that names nobody isolates, and is no attempt to allow something."""


def explain_flow(engine: Engine, request: ExplainFlow, directory: Directory) -> Explained:
    """Explain what a request asks about.

    Raises:
        UnknownParty, BadPort: A party, or the port, is none.
    """
    source, destination = find_parties(engine, request.source, request.destination, directory)
    port, protocol = read_port(request.port)
    number = destination.number(port, protocol)
    if number is None:
        raise UnknownParty(port, f"is no port that {destination.name} names")
    return explain(Judge(engine), source, destination, Packet(protocol, number))


def explain(judge: Judge, source: Party, destination: Party, packet: Packet) -> Explained:
    """Explain a flow on both sides."""
    egress = explain_side(judge, source, destination, packet, egress=True)
    ingress = explain_side(judge, destination, source, packet, egress=False)
    return Explained(
        source.name,
        destination.name,
        protocol_name(packet.protocol),
        packet.port,
        egress.allowed and ingress.allowed,
        egress,
        ingress,
    )


def explain_side(judge: Judge, subject: Party, peer: Party, packet: Packet, *, egress: bool) -> Side:
    """Explain what the policies of one end say."""
    judged = judge.judge_side(subject, peer, packet, egress=egress)
    side = Side(
        Direction.of(egress),
        subject.name,
        judged.allowed,
        judged.because,
        judged.rules,
        judged.isolated_by,
        audited=judged.audited,
    )
    if judged.allowed or judged.rules:
        return side
    return structs.replace(
        side,
        nearest=tuple(_nearest(judge.engine, subject, peer, packet, egress=egress)),
        suggestion=allow_policy(subject, peer, packet, egress=egress),
    )


def _specs(engine: Engine) -> Iterator[tuple[str, Spec]]:
    for key, policy in sorted(engine.policies.items()):
        for spec in policy.specs:
            yield key, spec


def _lookup(rule: Rule, subject: Party, peer: Party) -> NameLookup:
    """Return where a rule looks port names up: at the destination."""
    return lookup_in((peer if rule.egress else subject).peer.ports)


def _nearest(engine: Engine, subject: Party, peer: Party, packet: Packet, *, egress: bool) -> list[NearRule]:
    """Return the allow rules that come nearest to matching, the nearest first."""
    found: list[tuple[int, str, str, NearRule]] = []
    for key, spec in _specs(engine):
        of_subject = differ_from_selector(spec.subject, subject, Criterion.SUBJECT)
        for rule in spec.rules:
            if rule.deny or rule.egress != egress:
                continue
            of_flow = _differ(rule, subject, peer, packet)
            weight = SUBJECT_WEIGHT * len(of_subject) + len(of_flow) + (NOBODY_WEIGHT if rule.peers == () else 0)
            found.append((weight, key, rule.path, NearRule(key, rule.path, (*of_subject, *of_flow))))
    return [near for *_, near in sorted(found, key=lambda item: item[:3])[:MOST_NEAR]]


def _differ(rule: Rule, subject: Party, peer: Party, packet: Packet) -> tuple[Mismatch, ...]:
    ports = differ_from_ports(rule, packet, _lookup(rule, subject, peer))
    return (*differ_from_peers(rule, peer), *ports)
