"""Verdicts on many flows under one set of policies, with the rules that decide them.

Reads the rules, as explanations do. What concerns a subject, and whether a selector means a peer,
is found once and remembered, so that a hundred thousand flows between a few hundred workloads cost
seconds.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cilia.contracts.explanations import RulePath, VerdictReason
from cilia.policy.engine.engine import INIT, Engine
from cilia.policy.engine.groups import HOST, lookup_in
from cilia.policy.engine.mapstate import Match, broader, expand_rule
from cilia.policy.engine.options import Mode
from cilia.policy.engine.port_ranges import PORT_BITS
from cilia.policy.engine.rules import Rule, Selector, Spec
from cilia.policy.engine.selectors import Peer, selects
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import Party


@dataclass(frozen=True, slots=True)
class SideVerdict:
    """Verdict of one party's policies; fields as in :class:`cilia.contracts.explanations.Side`."""

    allowed: bool
    because: VerdictReason
    rules: tuple[RulePath, ...] = ()
    isolated_by: tuple[str, ...] = ()
    audited: bool = False
    """It is denied, but an audit lets it through."""


class Judgement(NamedTuple):
    """Verdicts of both sides; the second is not asked if the first denies."""

    egress: SideVerdict
    ingress: SideVerdict

    @property
    def allowed(self) -> bool:
        """Tell whether the flow passes."""
        return self.egress.allowed and self.ingress.allowed

    @property
    def deciding(self) -> tuple[SideVerdict, ...]:
        """The sides that the data plane asks: egress, and ingress unless that denied."""
        return (self.egress, self.ingress) if self.egress.allowed else (self.egress,)


class Applying(NamedTuple):
    """Rules and defaults that concern one subject."""

    rules: tuple[tuple[RulePath, Rule], ...]
    isolated_by: tuple[tuple[str, ...], tuple[str, ...]]
    """Keys of the policies that isolate it for ingress, and for egress."""
    admits_host: bool
    enforced: "Applying | None" = None
    """Less what audited policies deny; None if there are none."""


class Judge:
    """Judges flows under policies that don't change; ends must be the same objects to profit from
    what is remembered.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._mode = engine.mode
        self._policies = engine.policies
        self._applying: dict[Peer, Applying] = {}
        self._selects: dict[tuple[int, Peer], bool] = {}
        self._covering: dict[tuple[bool, Packet], frozenset[Match]] = {}
        self._matches: dict[tuple[int, Peer], frozenset[Match]] = {}  # rules and selectors by id(): they stay

    @property
    def rules(self) -> Iterator[RulePath]:
        """Every rule that can match something, once."""
        for key, policy in sorted(self._policies.items()):
            paths = (rule.path for spec in policy.specs for rule in spec.rules if rule.peers != ())
            yield from (RulePath(key, path) for path in dict.fromkeys(paths))

    def judge(self, source: Party, destination: Party, packet: Packet) -> Judgement:
        """Return the verdict on a flow."""
        return Judgement(
            self.judge_side(source, destination, packet, egress=True),
            self.judge_side(destination, source, packet, egress=False),
        )

    def judge_side(self, subject: Party, peer: Party, packet: Packet, *, egress: bool) -> SideVerdict:
        """Return the verdict of one party's policies."""
        if not subject.is_subject:
            return SideVerdict(True, VerdictReason.NOT_ENFORCED)
        if self._mode is Mode.NEVER:
            return SideVerdict(True, VerdictReason.MODE)
        applying = self.applying(subject)
        full = self._judge_under(applying, subject, peer, packet, egress=egress)
        if full.allowed:
            return full
        enforced = full
        if applying.enforced is not None:
            enforced = self._judge_under(applying.enforced, subject, peer, packet, egress=egress)
        return replace(full, allowed=True, audited=True) if self.engine.audit or enforced.allowed else enforced

    def _judge_under(
        self, applying: Applying, subject: Party, peer: Party, packet: Packet, *, egress: bool
    ) -> SideVerdict:
        matching = [
            (path, rule.deny)
            for path, rule in applying.rules
            if rule.egress == egress and self._rule_matches(rule, subject, peer, packet)
        ]
        if matching:
            denied = any(deny for _, deny in matching)
            return SideVerdict(not denied, VerdictReason.RULE, tuple(path for path, deny in matching if deny == denied))
        if not egress and peer.peer.identity == HOST and applying.admits_host:
            return SideVerdict(True, VerdictReason.HOST)
        isolating = applying.isolated_by[egress]
        if not isolating and self._mode is not Mode.ALWAYS and subject.peer.identity != INIT:
            return SideVerdict(True, VerdictReason.OPEN)
        because = VerdictReason.DEFAULT_DENY if isolating else VerdictReason.CLOSED
        return SideVerdict(False, because, isolated_by=isolating)

    def applying(self, subject: Party) -> Applying:
        """Return the rules and defaults that concern a subject."""
        found = self._applying.get(subject.peer)
        if found is None:
            specs = [
                (key, spec)
                for key, policy in sorted(self._policies.items())
                for spec in policy.specs
                if selects(spec.subject, subject.peer)
            ]
            admits_host = self._admits_host(subject, specs)
            found = _applying(specs, admits_host)
            if any(spec.audit for _, spec in specs):
                found = found._replace(enforced=_applying([(key, spec.enforced) for key, spec in specs], admits_host))
            self._applying[subject.peer] = found
        return found

    def _admits_host(self, subject: Party, specs: Iterable[tuple[str, Spec]]) -> bool:
        """Tell whether its node reaches the subject; one without labels yet only if a policy has
        rules for ingress.
        """
        has_ingress = any(not rule.egress for _, spec in specs for rule in spec.rules)
        return self.engine.options.admit_host and (subject.peer.identity != INIT or has_ingress)

    def _rule_matches(self, rule: Rule, subject: Party, peer: Party, packet: Packet) -> bool:
        if rule.peers is not None and not any(self._selected(selector, peer.peer) for selector in rule.peers):
            return False
        destination = (peer if rule.egress else subject).peer
        matches = self._matches.get((id(rule), destination))
        if matches is None:
            rule_entries = expand_rule(rule, "", 0, lookup_in(destination.ports))
            matches = self._matches[id(rule), destination] = frozenset(rule_entry.match for rule_entry in rule_entries)
        return not matches.isdisjoint(self._covers(rule.egress, packet))

    def _covers(self, egress: bool, packet: Packet) -> frozenset[Match]:
        found = self._covering.get((egress, packet))
        if found is None:
            exact = Match(egress, packet.protocol, packet.port, PORT_BITS)
            found = self._covering[egress, packet] = frozenset((exact, *broader(exact)))
        return found

    def _selected(self, selector: Selector, peer: Peer) -> bool:
        known = self._selects.get((id(selector), peer))
        if known is None:
            known = self._selects[id(selector), peer] = selects(selector, peer)
        return known


def _applying(specs: Sequence[tuple[str, Spec]], admits_host: bool) -> Applying:
    rules = tuple((RulePath(key, rule.path), rule) for key, spec in specs for rule in spec.rules)
    return Applying(rules, (_isolating(specs, egress=False), _isolating(specs, egress=True)), admits_host)


def _isolating(specs: Iterable[tuple[str, Spec]], *, egress: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for key, spec in specs if spec.isolates(egress)))
