"""Calls of the ipam service: nodes register, get blocks of pod addresses, and show that they live.

A node, its blocks and its endpoints stay until the node leaves, somebody removes it, or it is
declared dead. Its heartbeats only tell whether it is ``stale`` (:class:`~.tables.Staleness`).
"""

from typing import Final

from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.messages import Message
from cilia.contracts.tables import Node


class RegisterNode(Message, frozen=True):
    """``ipam.register``: enter the cluster, or come back. Idempotent.

    Incarnation and blocks of a node that is registered stay.
    """

    name: NodeName
    ipv4: str
    ipv6: str = ""
    labels: tuple[str, ...] = ()
    pool: str = "default"
    """Pool of its pods' IPv4 addresses; empty: they have none."""
    pool6: str = ""
    """Pool of its pods' IPv6 addresses; empty: they have none."""
    incarnation: Incarnation = Incarnation(0)
    """Incarnation that it had, if it knows; shows that it is the same node, though its address
    changed.
    """
    blocks: tuple[str, ...] = ()
    """Blocks that its pods have addresses of; it gets them again unless they are others' now."""


class Registered(Message, frozen=True):
    """Answer to ``ipam.register``."""

    incarnation: Incarnation
    """Another one than before: the node had been removed, and all that it had published with it."""
    stale_seconds: float
    """Time without a heartbeat after which the node is stale; several fit into it."""
    node: Node
    """The node's row; blocks that are missing in it are others' now, or free."""
    revision: Revision
    """Revision of etcd at which this was so."""


class Heartbeat(Message, frozen=True):
    """``ipam.heartbeat``: show that the node's agent lives; to the elected replica, which writes
    nothing for it.

    Answered by not_found once the node has been removed: register again.
    """

    node: NodeName
    incarnation: Incarnation


class GrowBlocks(Message, frozen=True):
    """``ipam.grow``: grant the node one more block; exhausted if the pool is used up."""

    node: NodeName
    incarnation: Incarnation
    pool: str = "default"


class Granted(Message, frozen=True):
    """Answer to ``ipam.grow``."""

    cidr: str
    revision: Revision


MOST_NODE_ADDRESSES: Final = 64
"""Addresses of a node that others are told; who has more has them for services, not as a host."""


class TellAddresses(Message, frozen=True):
    """``ipam.addresses``: say by which addresses other nodes may meet the node. Idempotent."""

    node: NodeName
    incarnation: Incarnation
    addresses: tuple[str, ...]
    """All of them, MOST_NODE_ADDRESSES at most, in place of those before."""


class ShrinkBlocks(Message, frozen=True):
    """``ipam.shrink``: give a block back that holds no address in use."""

    node: NodeName
    cidr: str


class UnregisterNode(Message, frozen=True):
    """``ipam.unregister``: remove a node with its blocks and endpoints. Idempotent."""

    node: NodeName
    incarnation: Incarnation = Incarnation(0)
    """Incarnation that leaves, so that a late request harms no successor; 0: whichever there is."""
    only_stale: bool = False
    """Refuse (conflict) unless its agent has been silent for so long that the node is stale."""
