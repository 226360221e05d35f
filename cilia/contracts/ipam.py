"""Calls of the ipam service: nodes register, and get blocks of pod addresses under a lease."""

from cilia.contracts.ids import LeaseId, NodeName, Revision
from cilia.contracts.messages import Message
from cilia.contracts.tables import Node


class RegisterNode(Message, frozen=True):
    """``ipam.register``: enter the cluster, or come back. Idempotent: the lease and blocks stay."""

    name: NodeName
    ipv4: str
    ipv6: str = ""
    labels: tuple[str, ...] = ()
    pool: str = "default"
    """Pool of its pods' IPv4 addresses; empty: they have none."""
    pool6: str = ""
    """Pool of its pods' IPv6 addresses; empty: they have none."""
    lease: LeaseId = LeaseId(0)
    """Lease that it had, if it knows; shows that it is the same node, though its address changed.
    """


class Registered(Message, frozen=True):
    """Answer to ``ipam.register``."""

    lease: LeaseId
    ttl_seconds: int
    """Lifetime of the lease; send a heartbeat at least every third of it."""
    node: Node
    revision: Revision


class Heartbeat(Message, frozen=True):
    """``ipam.heartbeat``: keep the node's lease.

    Answered by not_found once it has expired: register again.
    """

    node: NodeName
    lease: LeaseId


class GrowBlocks(Message, frozen=True):
    """``ipam.grow``: grant the node one more block; exhausted if the pool is used up."""

    node: NodeName
    lease: LeaseId
    pool: str = "default"


class Granted(Message, frozen=True):
    """Answer to ``ipam.grow``."""

    cidr: str
    revision: Revision


class ShrinkBlocks(Message, frozen=True):
    """``ipam.shrink``: give a block back that holds no address in use."""

    node: NodeName
    cidr: str


class UnregisterNode(Message, frozen=True):
    """``ipam.unregister``: leave the cluster; the lease is revoked, and all that it keeps goes."""

    node: NodeName
