"""Realisation of policies: agents acknowledge, and callers of the policy service wait for it."""

from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.messages import Message


class WaitRealised(Message, frozen=True):
    """``policy.wait``: answer once every concerned agent has realised ``revision`` (0: newest)."""

    revision: Revision
    timeout_seconds: float = 10.0


class WaitKnown(Message, frozen=True):
    """``policy.known``: answer once every agent whose policy names an identity has it in force as
    the identity is at ``revision``: its labels, addresses and named ports.

    Answered by :class:`Realised`.
    """

    identity: Identity
    revision: Revision
    timeout_seconds: float = 1.0


class NodeRealised(Message, frozen=True):
    """Realisation of a revision on one node."""

    node: NodeName
    endpoints: int
    milliseconds: float
    """Time from the acceptance of the change to its realisation in the kernel."""


class Realised(Message, frozen=True):
    """Answer to ``policy.wait``."""

    revision: Revision
    complete: bool
    nodes: tuple[NodeRealised, ...] = ()
    stragglers: tuple[NodeName, ...] = ()
    """Concerned nodes that have not acknowledged yet."""
    storing_milliseconds: float = 0.0
    """Time from the acceptance of the change until the kvstore had it, which each node's time
    includes; 0: not known.
    """


class Acknowledgement(Message, frozen=True):
    """Event: an agent has realised resolved policy in its kernel."""

    node: NodeName
    subjects: dict[Identity, Revision]
    """Subject identity -> sequence of its shard of RESOLVED that is now in force."""
    endpoints: int
    """Number of local endpoints that it concerns."""
    realised_ns: int
    """Unix time in ns."""
    capacity: int = 0
    """Entries that the node's policy map holds at most; 0: not told."""
