"""Requests, replies and events on the bus, as JSON: unknown fields are ignored, missing ones take
their default.
"""

from typing import Generic, TypeVar

from msgspec import Struct

from cilia.contracts.ids import Identity, LeaseId, NodeName, Revision
from cilia.contracts.tables import Endpoint, Node

T = TypeVar("T")


class Message(Struct, frozen=True):
    """A message in JSON; fields may be added with a default, never renamed."""


class Problem(Message, frozen=True):
    """Why a request was refused.

    ``code``: invalid, not_found, conflict, exhausted, busy, unavailable, internal.
    """

    code: str
    message: str
    field: str = ""
    value: str = ""


class Reply(Message, Generic[T], frozen=True, omit_defaults=True):
    """Answer to a request: ``ok`` or ``problem``, never both."""

    ok: T | None = None
    problem: Problem | None = None


class Empty(Message, frozen=True):
    """A request or an answer without content."""


# ipam


class RegisterNode(Message, frozen=True):
    """``ipam.register``: enter the cluster, or come back. Idempotent: the lease and blocks stay."""

    name: NodeName
    ipv4: str
    ipv6: str = ""
    labels: tuple[str, ...] = ()
    pool: str = "default"
    """Of IPv4, from which its pods' addresses come; empty: they have none."""
    pool6: str = ""
    """Of IPv6, likewise."""
    lease: LeaseId = LeaseId(0)
    """That it had, if it knows; it shows that the node is the same one, though its address is
    another.
    """


class Registered(Message, frozen=True):
    """Answer to ``ipam.register``."""

    lease: LeaseId
    ttl_seconds: int
    """Send a heartbeat at least every third of it."""
    node: Node
    revision: Revision


class Heartbeat(Message, frozen=True):
    """``ipam.heartbeat``: keep the node's lease.

    Answered by not_found once it has expired: register again.
    """

    node: NodeName
    lease: LeaseId


class GrowBlocks(Message, frozen=True):
    """``ipam.grow``: grant the node one more block. Answered by exhausted when the pool is used up."""

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
    """``ipam.unregister``: leave the cluster; the lease is revoked, and all that hangs on it goes."""

    node: NodeName


# identity


class AllocateIdentity(Message, frozen=True):
    """``identity.allocate``: the identity of a label set, and a reference to it held under
    ``lease``.
    """

    labels: tuple[str, ...]
    holder: str
    lease: LeaseId


class Allocated(Message, frozen=True):
    """Answer to ``identity.allocate``.

    ``revision`` is the one at which the identity and its reference exist.
    """

    identity: Identity
    revision: Revision


class AllocatePrefixes(Message, frozen=True):
    """``identity.prefixes``: have identities for prefixes that a policy is about to name.

    Idempotent.

    Answered by :class:`Revised`: the revision at which all of them exist. One that no policy comes
    to name is collected as any unused identity is.
    """

    prefixes: tuple[str, ...]


class ReleaseIdentity(Message, frozen=True):
    """``identity.release``: give one holder's reference up."""

    identity: Identity
    holder: str


class PublishEndpoint(Message, frozen=True):
    """``identity.publish``: write an endpoint's row, allocating its identity; ``endpoint.identity``
    is ignored.
    """

    endpoint: Endpoint
    labels: tuple[str, ...]
    lease: LeaseId


class Published(Message, frozen=True):
    """Answer to ``identity.publish``: the row as written."""

    endpoint: Endpoint
    revision: Revision


class WithdrawEndpoint(Message, frozen=True):
    """``identity.withdraw``: remove an endpoint's row, and with it its reference to the identity.

    Idempotent.
    """

    node: NodeName
    id: int


class Revised(Message, frozen=True):
    """Answer to a change: it holds from this revision on."""

    revision: Revision


# policy


class ApplyPolicies(Message, frozen=True):
    """``policy.apply``: store policies; all of ``text`` (YAML or JSON, one or many documents) or
    none of it.
    """

    text: str
    source: str = ""
    """Where the text is from, for messages: a file's name, ``-`` for standard input."""
    namespace: str = "default"
    """For objects that name none."""
    author: str = ""
    dry_run: bool = False
    allow_unenforced: bool = False
    shadow: bool = False
    """Put all of them in shadow: they change nothing, and tell what they would do."""


class PolicyFile(Message, frozen=True):
    """A source of policies by name, such as a file of a directory."""

    name: str
    text: str


class SyncPolicies(Message, frozen=True):
    """``policy.sync``: make the policies of one owner what its files say, in one revision.

    What the owner has that is in none of ``files`` is deleted, unless it came from a file in
    ``keep``. Policies of others are never touched: one of ``files`` that somebody else applied is
    refused as a conflict.
    """

    owner: str
    files: tuple[PolicyFile, ...]
    keep: tuple[str, ...] = ()
    """Names of files that can't be read now."""
    adopt: bool = False
    """Take over policies of the same name that nobody owns."""
    namespace: str = "default"
    author: str = ""
    dry_run: bool = False
    allow_unenforced: bool = False


class DeletePolicies(Message, frozen=True):
    """``policy.delete``: remove policies by key (:func:`~.tables.policy_object_key`), all or none."""

    keys: tuple[str, ...]
    author: str = ""


class PolicyChange(Message, frozen=True):
    """What became of one policy: ``created``, ``changed``, ``unchanged`` or ``deleted``."""

    key: str
    action: str
    before: str = ""
    after: str = ""
    """Its document (JSON), only in the answer to a dry run; empty where there is none."""
    unenforced: tuple[str, ...] = ()
    """Paths of its fields that were accepted and have no effect yet."""


class NodeForecast(Message, frozen=True):
    """How a change fills the policy map of a node that it concerns, in entries."""

    node: NodeName
    entries: int
    """Afterwards."""
    peak: int
    """While it changes: what the node has and what the changed subjects will have, side by side."""
    capacity: int


class PoliciesChanged(Message, frozen=True):
    """Answer to ``policy.apply`` and ``policy.delete``."""

    revision: Revision
    changes: tuple[PolicyChange, ...]
    forecast: tuple[NodeForecast, ...] = ()
    """Of a dry run: the nodes that it concerns, the fullest first."""


class WaitRealised(Message, frozen=True):
    """``policy.wait``: answer once every concerned agent has realised ``revision`` (0: newest)."""

    revision: Revision
    timeout_seconds: float = 10.0


class NodeRealised(Message, frozen=True):
    """How far one node is."""

    node: NodeName
    endpoints: int
    milliseconds: float
    """From the acceptance of the change to its realisation in the kernel."""


class Realised(Message, frozen=True):
    """Answer to ``policy.wait``."""

    revision: Revision
    complete: bool
    nodes: tuple[NodeRealised, ...] = ()
    stragglers: tuple[NodeName, ...] = ()
    """Concerned nodes that have not acknowledged yet."""
    storing_milliseconds: float = 0.0
    """From the acceptance of the change until the kvstore had it; part of what each node took.

    0: not known.
    """


class Acknowledgement(Message, frozen=True):
    """An agent has realised resolved policy in its kernel."""

    node: NodeName
    subjects: dict[Identity, Revision]
    """Subject identity -> sequence of its shard of RESOLVED that is now in force."""
    endpoints: int
    """How many local endpoints that concerns."""
    realised_ns: int
    """Unix time in ns."""
    capacity: int = 0
    """Entries that the node's policy map holds at most; 0: not told."""


# audit of the kernel


class ForeignChange(Message, frozen=True):
    """Somebody else changed what an agent keeps in its kernel; the agent has repaired it."""

    node: NodeName
    time_ns: int
    """Unix time in ns at which it was found."""
    part: str
    """``ipcache``, ``endpoints``, ``programs``, or the slot whose policy it was, such as ``policy
    of slot 3``.
    """
    found: tuple[str, ...]
    """In words: what there was, and what there ought to be; at most 20."""
    count: int
    """How many differences there were."""


# observability


class Flow(Message, frozen=True, omit_defaults=True):
    """One observation of the data plane."""

    time_ns: int
    """Unix time in ns."""
    node: NodeName
    kind: str
    """``verdict`` (first packet of a flow), ``drop``, or ``trace`` (an established flow goes on,
    begins or ends).
    """
    verdict: str
    """``forwarded``, ``dropped`` or ``audit``."""
    protocol: str
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    """Or the ICMP type."""
    source_identity: int = 0
    destination_identity: int = 0
    source_endpoint: str = ""
    """``namespace/name`` where the node knows it."""
    destination_endpoint: str = ""
    direction: str = ""
    """``ingress`` or ``egress``: the side whose policy decided."""
    reason: str = ""
    """Of a drop: the name in bpf/lib/drop.h, in lower case with dashes."""
    policy: str = ""
    """Key of the policy object that decided; empty for default deny."""
    bytes: int = 0
    is_reply: bool = False
    """Not sent by the end that began the flow."""


class FlowBatch(Message, frozen=True):
    """Flows of one node, in the order in which its kernel saw them."""

    node: NodeName
    flows: tuple[Flow, ...]
    lost: int = 0
    """Events that the ring buffer had no room for since the last batch."""
