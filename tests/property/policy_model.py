"""A policy evaluator that knows nothing of selectors' indexes, prefixes, map states or precedence.

It asks each rule of each policy whether it speaks about a flow; that is all. The engine is measured
against it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network

from cilia.policy.engine.rules import Block, NamedPort, Operator, Policy, Prefix, Requirement, Rule, Selector, Spec

HOST, INIT = 1, 5


@dataclass(frozen=True)
class Workload:
    """An identity as the model sees it: texts of labels, addresses, (name, protocol, port)."""

    identity: int
    labels: frozenset[str]
    addresses: frozenset[str] = frozenset()
    ports: frozenset[tuple[str, int, int]] = frozenset()
    prefix: str = ""
    """Prefix outside of the cluster that it stands for; empty for a workload."""


@dataclass
class Model:
    """All policies and identities; ``mode`` is default, always or never."""

    policies: dict[str, Policy] = field(default_factory=dict)
    workloads: dict[int, Workload] = field(default_factory=dict)
    mode: str = "default"
    audit: bool = False

    def judge(self, subject: int, peer: int, *, egress: bool, protocol: int, port: int) -> str:
        """Tell what becomes of a flow on the subject's side: ``allowed``, ``denied`` or
        ``audited``.
        """
        if self.mode == "never":
            return "allowed"
        own, other = self.workloads[subject], self.workloads[peer]
        specs = [spec for policy in self.policies.values() for spec in policy.specs if _selects(spec.subject, own)]
        speaking = [
            (rule, spec.audit)
            for spec in specs
            for rule in _rules([spec], egress)
            if _speaks(rule, own, other, protocol, port)
        ]
        has_ingress = subject != INIT or bool(_rules(specs, egress=False))
        admitted = peer == HOST and not egress and has_ingress

        def allows(heeded: list[Spec], rules: list[Rule]) -> bool:
            if any(rule.deny for rule in rules):
                return False
            return bool(rules) or self._is_open(heeded, subject, egress) or admitted

        if allows(specs, [rule for rule, _ in speaking]):
            return "allowed"
        enforced = [spec for spec in specs if not spec.audit]
        if self.audit or allows(enforced, [rule for rule, audit in speaking if not (audit and rule.deny)]):
            return "audited"
        return "denied"

    def _is_open(self, specs: list[Spec], subject: int, egress: bool) -> bool:
        closed = self.mode == "always" or subject == INIT
        return not closed and not any(spec.isolates(egress) for spec in specs)


def _rules(specs: Iterable[Spec], egress: bool) -> list[Rule]:
    return [rule for spec in specs for rule in spec.rules if rule.egress == egress]


def _speaks(rule: Rule, own: Workload, other: Workload, protocol: int, port: int) -> bool:
    if rule.peers is not None and not any(_selects(peer, other) for peer in rule.peers):
        return False
    if rule.ports is None:
        return True
    named = (other if rule.egress else own).ports
    return any(
        item.protocol == protocol
        and (
            _is_named(item, named, port, rule.deny) if isinstance(item, NamedPort) else item.first <= port <= item.last
        )
        for item in rule.ports
    )


def _is_named(item: NamedPort, ports: frozenset[tuple[str, int, int]], port: int, deny: bool) -> bool:
    numbers = [number for name, protocol, number in ports if (name, protocol) == (item.name, item.protocol)]
    return port in numbers and (deny or len(numbers) == 1)


def _selects(selector: Selector, workload: Workload) -> bool:
    if selector.block is not None and not _in_block(selector.block, workload):
        return False
    return all(_meets(item, workload) for item in selector.requirements)


def _in_block(block: Block, workload: Workload) -> bool:
    held = [ip_network(address) for address in workload.addresses] + (
        [ip_network(workload.prefix)] if workload.prefix else []
    )
    return bool(held) and all(
        _covers(block.cidr, item) and not any(_covers(hole, item) for hole in block.excepts) for item in held
    )


def _covers(outer: Prefix, inner: Prefix) -> bool:
    return outer.version == inner.version and all(
        address in outer for address in (inner.network_address, inner.broadcast_address)
    )


def _meets(item: Requirement, workload: Workload) -> bool:
    if item.source == "cidr":
        covers = bool(workload.prefix) and _covers(ip_network(item.key), ip_network(workload.prefix))
        return covers == (item.operator is Operator.EXISTS)
    values = [
        value
        for source, key, value in (_split(text) for text in workload.labels)
        if key == item.key and item.source in (source, "any")
    ]
    if item.operator in (Operator.EXISTS, Operator.ABSENT):
        return bool(values) == (item.operator is Operator.EXISTS)
    return (bool(values) and values[0] in item.values) == (item.operator is Operator.IN)


def _split(text: str) -> tuple[str, str, str]:
    head, _, value = text.partition("=")
    source, _, key = head.partition(":")
    return source, key, value
