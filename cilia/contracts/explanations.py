"""Explanation of a flow's verdict: request and answer of ``policy.explain``."""

from enum import StrEnum

from cilia.contracts.direction import Direction
from cilia.contracts.ids import Revision
from cilia.contracts.messages import Message


class PeerSelector(Message, frozen=True):
    """Source or destination of a flow: by ``name``, or a pod that would have ``labels`` in
    ``namespace``.
    """

    name: str = ""
    """``namespace/name`` of a pod, the number of an identity, an entity such as ``host``, or an
    address.
    """
    labels: tuple[str, ...] = ()
    """``key=value`` or ``source:key=value``."""
    namespace: str = "default"


class ExplainFlow(Message, frozen=True):
    """``policy.explain``: judge a flow, and name what decides."""

    source: PeerSelector
    destination: PeerSelector
    port: str
    """``80/TCP``, ``http/TCP`` (as the destination names it) or ``8/ICMP`` (a type)."""
    at_least: Revision = Revision(0)
    """Earliest revision of the state to judge; the replica waits for it, bounded."""


class RulePath(Message, frozen=True):
    """Path of a rule: the key of its policy, and the field that holds it."""

    policy: str
    rule: str
    """Path of the field, such as ``spec.ingress[0]``."""


class Criterion(StrEnum):
    """Part of a rule that a flow is compared with."""

    SUBJECT = "subject"
    """The pods that the policy selects."""
    PEER = "peer"
    PORT = "port"


class MismatchKind(StrEnum):
    """Property in which a flow differs from a rule."""

    LABEL = "label"
    NAMESPACE = "namespace"
    CLUSTER = "cluster"
    ENTITY = "entity"
    CIDR = "cidr"
    EXCEPT = "except"
    PORT = "port"
    PROTOCOL = "protocol"
    PORT_NAME = "port-name"
    NOBODY = "nobody"
    """The rule names no peer at all."""


class Mismatch(Message, frozen=True):
    """One difference between a flow and what a rule wants."""

    criterion: Criterion
    kind: MismatchKind
    wanted: str
    found: str


class NearRule(Message, frozen=True):
    """A rule that would allow a flow, but for a few differences."""

    policy: str
    rule: str
    mismatches: tuple[Mismatch, ...]


class VerdictReason(StrEnum):
    """Reason for the verdict of one side's policies."""

    RULE = "rule"
    """Rules match, of which any alone decides."""
    DEFAULT_DENY = "default-deny"
    """Nothing matches, and policies isolate the subject: they deny what nothing allows."""
    CLOSED = "closed"
    """Nothing matches, and the enforcement mode, or a subject without labels yet, denies it."""
    OPEN = "open"
    """No rule denies, and no policy isolates the subject."""
    HOST = "host"
    """Its own node always reaches a pod that no rule closes to it."""
    MODE = "mode"
    """Enforcement is off."""
    NOT_ENFORCED = "not-enforced"
    """The subject is no endpoint in the cluster, and so has no policy."""


class Side(Message, frozen=True):
    """Verdict of the policies on one side of a flow: the source's for egress, the destination's for
    ingress.
    """

    direction: Direction
    subject: str
    allowed: bool
    because: VerdictReason
    rules: tuple[RulePath, ...] = ()
    isolated_by: tuple[str, ...] = ()
    nearest: tuple[NearRule, ...] = ()
    suggestion: str = ""
    """Smallest policy that allows the flow on this side, as YAML; empty where none can (a rule
    denies it).
    """
    audited: bool = False
    """Denied, for the reason given, but let through and reported by an audit."""


class Explained(Message, frozen=True):
    """Answer to ``policy.explain``; a flow passes if both sides allow it."""

    source: str
    destination: str
    protocol: str
    port: int
    allowed: bool
    egress: Side
    ingress: Side
    revision: Revision = Revision(0)
    """Revision of the state that was judged."""
