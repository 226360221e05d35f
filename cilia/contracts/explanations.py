"""Why a flow is allowed or denied: request and answer of ``policy.explain``."""

from cilia.contracts.ids import Revision
from cilia.contracts.messages import Message


class Party(Message, frozen=True):
    """One end of a flow: by ``name``, or as what a pod with ``labels`` in ``namespace`` would be."""

    name: str = ""
    """``namespace/name`` of a pod, the number of an identity, an entity such as ``host``, or an
    address.
    """
    labels: tuple[str, ...] = ()
    """``key=value`` or ``source:key=value``."""
    namespace: str = "default"


class ExplainFlow(Message, frozen=True):
    """``policy.explain``: what becomes of a flow, and why."""

    source: Party
    destination: Party
    port: str
    """``80/TCP``, ``http/TCP`` (as the destination names it) or ``8/ICMP`` (a type)."""
    at_least: Revision = Revision(0)
    """The state to judge is of this revision or a later one; the replica waits for it, bounded."""


class RulePlace(Message, frozen=True):
    """A rule: the key of its policy, and the field that holds it, such as ``spec.ingress[0]``."""

    policy: str
    rule: str


class Mismatch(Message, frozen=True):
    """One thing in which a flow differs from what a rule wants."""

    end: str
    """``subject`` (whom the policy selects), ``peer``, or ``port``."""
    what: str
    """``label``, ``namespace``, ``cluster``, ``entity``, ``cidr``, ``except``, ``port``,
    ``protocol``, ``port-name`` or ``nobody`` (the rule names no peer at all).
    """
    wanted: str
    found: str


class NearRule(Message, frozen=True):
    """A rule that would allow a flow, but for a few differences."""

    policy: str
    rule: str
    mismatches: tuple[Mismatch, ...]


class Side(Message, frozen=True):
    """What one end's policy says.

    ``because`` is one of

    - ``rule``: ``rules`` match, of which any alone decides;
    - ``default-deny``: nothing matches, and the policies ``isolated_by`` deny what nothing allows;
    - ``closed``: nothing matches, and the enforcement mode, or a subject without labels yet, denies
      it;
    - ``open``: no rule denies, and no policy isolates the subject;
    - ``host``: its own node always reaches a pod that no rule closes to it;
    - ``mode``: enforcement is off;
    - ``not-enforced``: this end has no endpoint in the cluster, and so no policy.
    """

    direction: str
    subject: str
    allowed: bool
    because: str
    rules: tuple[RulePlace, ...] = ()
    isolated_by: tuple[str, ...] = ()
    nearest: tuple[NearRule, ...] = ()
    remedy: str = ""
    """The smallest policy that allows the flow on this side, as YAML; empty where none can (a rule
    denies it).
    """
    audited: bool = False
    """It is denied, for the reason given, but an audit lets it through and reports it."""


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
    """Of the state that was judged."""
