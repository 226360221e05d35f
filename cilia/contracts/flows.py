"""Distinct flows: what agents tell the recorder, and what it tells others.

A distinct flow is who talks to whom about what, and what became of it, however often. Agents count
locally and send what is new or has grown; the recorder (services/recorder) adds it up.
"""

from cilia.contracts.messages import Message

ALLOWED = "allowed"
DENIED = "denied"
AUDITED = "audited"
"""Let through by audit; the policy would have denied it."""


class SeenEnd(Message, frozen=True, omit_defaults=True):
    """One end of a flow as an agent knows it."""

    identity: int
    workload: str = ""
    """``namespace/name``, of a pod; without the ending that its controller gives each copy."""
    address: str = ""
    """Of someone who is no pod."""


class SeenFlow(Message, frozen=True, omit_defaults=True):
    """A distinct flow that one node has seen since it spoke of it last.

    Attributes:
        protocol: IP protocol number.
        port: Destination port, or ICMP type.
        verdict: ``allowed``, ``denied`` or ``audited``.
        egress: The side that decided, as seen from its endpoint.
        policy: Key of the policy object that decided; empty for a default.
        ports: (name, protocol, port) that the destination names.
        count: Verdicts: each new flow, each flow decided anew, and each denied packet.
        first_ns, last_ns: Unix time in ns.
    """

    source: SeenEnd
    destination: SeenEnd
    protocol: int
    port: int
    verdict: str
    egress: bool
    policy: str = ""
    ports: tuple[tuple[str, str, int], ...] = ()
    count: int = 1
    first_ns: int = 0
    last_ns: int = 0


class RecordFlows(Message, frozen=True):
    """``recorder.record``: what a node has seen.

    Answered once what is new in it survives a crash of the recorder.
    """

    node: str
    flows: tuple[SeenFlow, ...]
    batch: str = ""
    """Its name; the same batch sent again counts once."""
    lost: int = 0
    """Distinct flows that the agent had no room for."""


class FlowEnd(Message, frozen=True, omit_defaults=True):
    """One end of a recorded flow; whoever has the same labels, workload and address is the same
    end.
    """

    labels: tuple[str, ...] = ()
    """Security labels of a pod, sorted; ``reserved:...`` of others."""
    workload: str = ""
    address: str = ""
    identity: int = 0
    """As it was when the flow was seen last; what counts are the labels."""
    ports: tuple[tuple[str, str, int], ...] = ()
    """(name, protocol, port) that a destination names."""
    prefixes: tuple[str, ...] = ()
    """All addresses of the pods with these labels, for an ``ipBlock``; not recorded, but found when
    flows are listed.
    """


class RecordedFlow(Message, frozen=True, omit_defaults=True):
    """A distinct flow of the cluster.

    Fields as in :class:`SeenFlow`; the protocol by its name where it has one.
    """

    source: FlowEnd
    destination: FlowEnd
    protocol: str
    port: int
    verdict: str
    egress: bool = False
    policy: str = ""
    count: int = 1
    first_ns: int = 0
    last_ns: int = 0


class ListFlows(Message, frozen=True):
    """``recorder.flows``: recorded flows in the order of their keys, those after ``after``.

    Empty fields match all. ``namespace`` and ``workload`` are of either end.
    """

    after: str = ""
    limit: int = 500
    namespace: str = ""
    workload: str = ""
    verdict: str = ""
    since_ns: int = 0


class FlowPage(Message, frozen=True):
    """Answer to ``recorder.flows``."""

    flows: tuple[RecordedFlow, ...]
    next: str = ""
    """Ask with this as ``after`` for more; empty: that was all."""
    since_ns: int = 0
    """Flows are recorded since then."""
    evicted: int = 0
    """Distinct flows that had to make room; what rests on the record may miss them."""


class ShadowVerdict(Message, frozen=True):
    """What would have become of flows, had the policies in shadow been in force.

    Sent for what agents report of each distinct flow that a policy in shadow has a say in.
    """

    flow: RecordedFlow
    """With the count since the last report."""
    allowed: bool
    """By the policies in force."""
    would_be: bool
    """With those in shadow beside them."""
    policies: tuple[str, ...]
    """Keys of the shadow policies that decide: their rules match, or they isolate."""


class ShadowVerdicts(Message, frozen=True):
    """Several of them, of one node's report."""

    node: str
    verdicts: tuple[ShadowVerdict, ...]
