"""Flow events: single observations of the data plane, as ``monitor`` shows them."""

from enum import StrEnum

from cilia.contracts.direction import Direction
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Message


class FlowKind(StrEnum):
    """Kind of an observation."""

    VERDICT = "verdict"
    """First packet of a flow."""
    DROP = "drop"
    TRACE = "trace"
    """An established flow goes on, begins or ends."""


class FlowVerdict(StrEnum):
    """Fate of the observed packet."""

    FORWARDED = "forwarded"
    DROPPED = "dropped"
    AUDIT = "audit"
    """Forwarded by an audit; policy would have dropped it."""


class Flow(Message, frozen=True, omit_defaults=True):
    """One observation of the data plane."""

    time_ns: int
    """Unix time in ns."""
    node: NodeName
    kind: FlowKind
    verdict: FlowVerdict
    protocol: str
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    """Destination port, or ICMP type."""
    source_identity: int = 0
    destination_identity: int = 0
    source_endpoint: str = ""
    """Sender as ``namespace/name`` where the node knows it."""
    destination_endpoint: str = ""
    direction: Direction | None = None
    """Side whose policy decided."""
    reason: str = ""
    """Drop reason: its name in bpf/lib/drop_reasons.h, in lower case with dashes."""
    policy: str = ""
    """Key of the policy object that decided; empty for default deny."""
    bytes: int = 0
    is_reply: bool = False
    """Sent by the end that did not begin the flow."""


class FlowBatch(Message, frozen=True):
    """Flow events of one node, in the order in which its kernel saw them."""

    node: NodeName
    flows: tuple[Flow, ...]
    lost: int = 0
    """Events that the ring buffer, or the agent, had no room for since the last batch."""
    limited: int = 0
    """Events above the limit of their pod, or of the node, since the last batch."""
