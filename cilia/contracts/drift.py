"""Drift of a node's kernel from what its agent keeps there."""

from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Message


class ForeignChange(Message, frozen=True):
    """Event: somebody else changed what an agent keeps in its kernel; the agent has repaired it."""

    node: NodeName
    time_ns: int
    """Unix time in ns at which it was found."""
    part: str
    """Part of the kernel's state: ``ipcache``, ``endpoints``, ``programs``, or a policy, such
    as ``policy of slot 3``.
    """
    found: tuple[str, ...]
    """Differences for people: what there was, and what there ought to be; at most 20."""
    count: int
    """Number of differences, those beyond ``found`` included."""
