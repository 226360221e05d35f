"""Distinct flows: what agents tell the recorder, and what it tells others.

A distinct flow is a source, a destination, a protocol and port, and a verdict, however often it was
seen. Agents count locally and send what is new or has grown; the recorder (services/recorder) adds
it up.
"""

from enum import StrEnum

from cilia.contracts.ids import NamedPort
from cilia.contracts.messages import Message


class PolicyVerdict(StrEnum):
    """Verdict of policy on a flow."""

    ALLOWED = "allowed"
    DENIED = "denied"
    AUDITED = "audited"
    """Let through by an audit; the policy would have denied it."""


class FlowPeer(Message, frozen=True, omit_defaults=True):
    """Source or destination of a flow as an agent knows it."""

    identity: int
    workload: str = ""
    """``namespace/name`` of a pod, without the ending that its controller gives each copy."""
    address: str = ""
    """Address of a peer that is no pod."""


class DistinctFlow(Message, frozen=True, omit_defaults=True):
    """A distinct flow that one node has seen since it reported it last.

    Attributes:
        protocol: IP protocol number.
        port: Destination port, or ICMP type.
        egress: The side that decided, as seen from its endpoint.
        policy: Key of the policy object that decided; empty for a default.
        ports: Those that the destination names.
        count: Verdicts: each new flow, each flow decided anew, and each denied packet.
        first_ns, last_ns: Unix time in ns.
    """

    source: FlowPeer
    destination: FlowPeer
    protocol: int
    port: int
    verdict: PolicyVerdict
    egress: bool
    policy: str = ""
    ports: tuple[NamedPort, ...] = ()
    count: int = 1
    first_ns: int = 0
    last_ns: int = 0


class RecordFlows(Message, frozen=True):
    """``recorder.record``: report the distinct flows that a node has seen.

    Answered once what is new in it survives a crash of the recorder.
    """

    node: str
    flows: tuple[DistinctFlow, ...]
    batch: str = ""
    """Name of the report; the same one sent again counts once."""
    lost: int = 0
    """Distinct flows that the agent had no room for."""


class RecordedPeer(Message, frozen=True, omit_defaults=True):
    """Source or destination of a recorded flow; the same labels, workload and address are the same
    peer.
    """

    labels: tuple[str, ...] = ()
    """Security labels of a pod, sorted; ``reserved:...`` of others."""
    workload: str = ""
    address: str = ""
    identity: int = 0
    """Number of the labels when the flow was seen last; what counts are the labels."""
    ports: tuple[NamedPort, ...] = ()
    """Ports that a destination names."""
    prefixes: tuple[str, ...] = ()
    """Addresses of all pods with these labels, for an ``ipBlock``; found when flows are listed, not
    recorded.
    """


class RecordedFlow(Message, frozen=True, omit_defaults=True):
    """A distinct flow of the cluster.

    Fields as in :class:`DistinctFlow`; the protocol by its name where it has one.
    """

    source: RecordedPeer
    destination: RecordedPeer
    protocol: str
    port: int
    verdict: PolicyVerdict
    egress: bool = False
    policy: str = ""
    count: int = 1
    first_ns: int = 0
    last_ns: int = 0


class ListFlows(Message, frozen=True, omit_defaults=True):
    """``recorder.flows``: list recorded flows in the order of their keys, those after ``after``.

    Empty fields match all. ``namespace`` and ``workload`` are of the source or the destination.
    """

    after: str = ""
    limit: int = 500
    namespace: str = ""
    workload: str = ""
    verdict: PolicyVerdict | None = None
    since_ns: int = 0
    """Unix time in ns; only flows seen since."""


class FlowPage(Message, frozen=True):
    """Answer to ``recorder.flows``."""

    flows: tuple[RecordedFlow, ...]
    next: str = ""
    """Value of ``after`` for the next page; empty: that was all."""
    since_ns: int = 0
    """Unix time in ns since which flows are recorded."""
    evicted: int = 0
    """Number of distinct flows that had to make room; the record misses them."""


class ShadowVerdict(Message, frozen=True):
    """The verdict that a flow would have had, had the policies in shadow been in force.

    Sent for what agents report of each distinct flow that a policy in shadow has a say in.
    """

    flow: RecordedFlow
    """The flow, with the count since the last report."""
    allowed: bool
    """Verdict of the policies in force."""
    would_be: bool
    """Verdict with those in shadow beside them."""
    policies: tuple[str, ...]
    """Keys of the shadow policies that decide: their rules match, or they isolate."""


class ShadowVerdicts(Message, frozen=True):
    """The shadow verdicts on one node's report."""

    node: str
    verdicts: tuple[ShadowVerdict, ...]
