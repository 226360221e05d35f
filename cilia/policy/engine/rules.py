"""Typed rules: what the languages are translated to and the engine works on.

A :class:`Policy` is one object of its user; it holds one :class:`Spec` for each subject selector it
names. Everything is frozen and compares by value, so that an unchanged spec is recognised when its
object is written again.
"""

from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from cilia.contracts.labels import NAMESPACE, Label
from cilia.contracts.tables import policy_cookie

Prefix = IPv4Network | IPv6Network

ANY_SOURCE: Final = "any"
RESERVED: Final = "reserved"
CIDR: Final = "cidr"
CIDR_GROUP: Final = "cidrgroup"


class Operator(Enum):
    """Operator of a requirement on its key."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    ABSENT = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label key.

    ``source`` may be ``any``; then the key counts whoever vouches for it.
    """

    source: str
    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def admits(self, labels: "LabelView") -> bool:
        """Tell whether the labels meet it; as in Kubernetes, ``NotIn`` is met by an absent key."""
        value = labels.get((self.source, self.key))
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.ABSENT:
                return value is None


LabelView = dict[tuple[str, str], str]
"""(source, key) -> value; each key also stands under the source ``any``."""


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses as ``ipBlock`` of Kubernetes means them: whoever holds one, pods included."""

    cidr: Prefix
    excepts: tuple[Prefix, ...] = ()

    def holds(self, prefix: Prefix) -> bool:
        """Tell whether every address of ``prefix`` is in the block."""
        return within(prefix, self.cidr) and not any(within(prefix, hole) for hole in self.excepts)


@dataclass(frozen=True, slots=True)
class Selector:
    """A conjunction: every requirement holds, and the peer's addresses lie in the block if there is
    one.
    """

    requirements: tuple[Requirement, ...] = ()
    block: Block | None = None


EVERYTHING: Final = Selector()


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports ``first``..``last`` (or ICMP types) of one IP protocol; 0..65535 is every port."""

    protocol: int
    first: int = 0
    last: int = 65_535


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A port by the name that the pod behind it gives it: the subject for ingress, each peer for
    egress.
    """

    protocol: int
    name: str


Ports = tuple[PortRange | NamedPort, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Peers and ports that one element of a policy allows or denies.

    Attributes:
        egress: The direction, seen from the subject.
        peers: Any of these; None is any peer at all, also from outside of the cluster; () is none.
        ports: Any of these; None is every protocol and port.
        path: Field of the policy that it comes from, such as ``spec.ingress[0]``.
    """

    egress: bool
    deny: bool
    peers: tuple[Selector, ...] | None
    ports: Ports | None
    path: str = ""

    @property
    def prefixes(self) -> frozenset[Prefix]:
        """Prefixes that its peers name, exceptions included."""
        return frozenset(prefix for peer in self.peers or () for prefix in _prefixes(peer))

    @property
    def is_named(self) -> bool:
        """Tell whether a port goes by its name."""
        return any(isinstance(port, NamedPort) for port in self.ports or ())


def split_names(rule: Rule) -> tuple[Rule, ...]:
    """Return a rule as such that either name no port or name their peers: a name means nothing
    without its pod.
    """
    if rule.peers is not None or not rule.egress or not rule.is_named:
        return (rule,)
    ports = rule.ports or ()
    named = tuple(port for port in ports if isinstance(port, NamedPort))
    numbered = tuple(port for port in ports if isinstance(port, PortRange))
    by_name = replace(rule, peers=(EVERYTHING,), ports=named)
    return (by_name, replace(rule, ports=numbered)) if numbered else (by_name,)


@dataclass(frozen=True, slots=True)
class Spec:
    """Rules of one policy for the subjects that one selector selects."""

    subject: Selector
    rules: tuple[Rule, ...]
    isolates_ingress: bool
    isolates_egress: bool
    audit: bool = False
    """Denials of this spec, and of others like it, let through and reported."""

    def isolates(self, egress: bool) -> bool:
        """Tell whether subjects are denied by default in a direction."""
        return self.isolates_egress if egress else self.isolates_ingress

    @property
    def enforced(self) -> "Spec":
        """The spec less what an audit only reports: denials and isolation."""
        if not self.audit:
            return self
        allows = tuple(rule for rule in self.rules if not rule.deny)
        return replace(self, rules=allows, isolates_ingress=False, isolates_egress=False)


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Prefixes with a name and labels, by which rules may select them (CiliumCIDRGroup)."""

    prefixes: frozenset[Prefix]
    labels: tuple[tuple[str, str], ...]
    """Labels that its prefixes bear under the source :data:`CIDR_GROUP`."""


GROUP_NAME: Final = "io.cilium.policy.cidrgroupname/"
"""Beginning of the key that a group's prefixes bear for its name."""


@dataclass(frozen=True)
class Policy:
    """One policy object; ``key`` as :func:`cilia.contracts.tables.policy_object_key` gives it.

    One in ``shadow`` is not in force: it only tells what would become of flows.
    """

    key: str
    specs: tuple[Spec, ...]
    shadow: bool = False
    group: PrefixGroup | None = None

    @property
    def cookie(self) -> int:
        """Names the policy in map entries."""
        return policy_cookie(self.key)

    @property
    def prefixes(self) -> frozenset[Prefix]:
        """Prefixes that need an identity while the policy exists, exceptions included."""
        named = frozenset(prefix for spec in self.specs for rule in spec.rules for prefix in rule.prefixes)
        return named | self.group.prefixes if self.group is not None else named


def _prefixes(selector: Selector) -> list[Prefix]:
    found = [parse_prefix(item.key) for item in selector.requirements if item.source == CIDR]
    if selector.block is not None:
        found += [selector.block.cidr, *selector.block.excepts]
    return found


def within(inner: Prefix, outer: Prefix) -> bool:
    """Tell whether ``inner`` is part of ``outer``; prefixes of different families never are."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


@lru_cache(maxsize=65_536)
def parse_prefix(key: str) -> Prefix:
    """Read the key of a ``cidr:`` label; a dash stands for the colon, which closes a label's
    source.
    """
    return ip_network(key.replace("-", ":"), strict=False)


def cidr_label(prefix: Prefix) -> Label:
    """Return the label of the identity that stands for a prefix."""
    text = str(prefix).replace(":", "-")
    return Label(CIDR, f"0{text}" if text.startswith("-") else text, "")


NAMESPACED: Final = Requirement("k8s", NAMESPACE, Operator.EXISTS)
"""Holds for the workloads of the cluster and for nobody else."""
