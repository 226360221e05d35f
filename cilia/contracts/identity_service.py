"""Calls of the identity service: numbers for label sets and prefixes, and endpoints' rows."""

from cilia.contracts.ids import EndpointId, Identity, Incarnation, NodeName, Revision
from cilia.contracts.messages import Message
from cilia.contracts.tables import Endpoint


class AllocateIdentity(Message, frozen=True):
    """``identity.allocate``: get the identity of a label set, and a reference to it that stays
    until ``identity.release``.
    """

    labels: tuple[str, ...]
    holder: str


class Allocated(Message, frozen=True):
    """Answer to ``identity.allocate``."""

    identity: Identity
    revision: Revision
    """Revision at which the identity and its reference exist."""


class AllocatePrefixes(Message, frozen=True):
    """``identity.prefixes``: have identities for prefixes that a policy is about to name.

    Idempotent. Answered by :class:`~.messages.Revised`: the revision at which all of them exist.
    One that no policy comes to name is collected as any unused identity is.
    """

    prefixes: tuple[str, ...]


class ReleaseIdentity(Message, frozen=True):
    """``identity.release``: give one holder's reference up."""

    identity: Identity
    holder: str


class PublishEndpoint(Message, frozen=True):
    """``identity.publish``: write an endpoint's row, and allocate the identity that it gets.

    The identity in the request's row is ignored. Answered by not_found unless the node's membership
    is still ``incarnation``: a node that was removed owns none of the addresses that it had.
    """

    endpoint: Endpoint
    labels: tuple[str, ...]
    incarnation: Incarnation


class Published(Message, frozen=True):
    """Answer to ``identity.publish``: the row as written."""

    endpoint: Endpoint
    revision: Revision


class WithdrawEndpoint(Message, frozen=True):
    """``identity.withdraw``: remove an endpoint's row, and its reference to the identity.

    Idempotent.
    """

    node: NodeName
    id: EndpointId
