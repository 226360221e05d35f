"""The agent's API: newline-delimited JSON on its unix socket, and the same calls on the bus.

On the socket a request is one line ``{"call": "endpoint-create", "arguments": {...}}`` and the
answer one line :class:`~.messages.Reply`. On the bus a call is a request to
``cilia.v1.<cluster>.node.<node>.<call>``; flows are on ``cilia.v1.<cluster>.flow.<node>``.

====================  ===========================  =================================================
call                  arguments                    answer
====================  ===========================  =================================================
``status``            :class:`~.messages.Empty`    :class:`AgentStatus`
``endpoint-create``   :class:`CreateEndpoint`      :class:`LocalEndpoint`, once its policy is
                                                   realised
``endpoint-delete``   :class:`EndpointReference`   :class:`~.messages.Empty`; idempotent
``endpoint-relabel``  :class:`RelabelEndpoint`     :class:`LocalEndpoint`
``endpoint-audit``    :class:`AuditEndpoint`       :class:`LocalEndpoint`
``endpoint-list``     :class:`~.messages.Empty`    :class:`LocalEndpoints`
``endpoint-get``      :class:`EndpointReference`   :class:`LocalEndpoint`
``policy-get``        :class:`EndpointReference`   :class:`EndpointPolicy`
``prefixes-wait``     :class:`AwaitPrefixes`       :class:`~.messages.Empty`, once the ipcache has
                                                   them
``addresses-wait``    :class:`AwaitAddresses`      :class:`~.messages.Empty`, likewise
``map-list``          :class:`~.messages.Empty`    :class:`MapList`
``map-get``           :class:`MapQuery`            :class:`MapContents`
====================  ===========================  =================================================
"""

from enum import StrEnum

from msgspec import Raw

from cilia.contracts.ids import EndpointId, Identity, NamedPort, NodeName
from cilia.contracts.messages import Message
from cilia.contracts.tables import PolicyEntry, PolicyKey


class Call(Message, frozen=True):
    """A request on the socket."""

    call: str
    arguments: Raw = Raw(b"{}")
    traceparent: str = ""


class CreateEndpoint(Message, frozen=True):
    """Connection of a pod; idempotent for the same namespace, name and network namespace."""

    namespace: str
    name: str
    netns: str
    """Path of the pod's network namespace, such as ``/run/netns/web``."""
    labels: dict[str, str] = {}
    """Labels of the pod; those of its namespace are added."""
    namespace_labels: dict[str, str] = {}
    interface: str = "eth0"
    """Name of the device in the pod."""
    named_ports: tuple[NamedPort, ...] = ()
    timeout_seconds: float = 10.0


class EndpointReference(Message, frozen=True):
    """An endpoint of this node: by ``id``, or by ``namespace`` and ``name``."""

    id: EndpointId = EndpointId(0)
    namespace: str = ""
    name: str = ""


class RelabelEndpoint(Message, frozen=True):
    """Change of an endpoint's labels, and so, as a rule, of its identity."""

    endpoint: EndpointReference
    labels: dict[str, str]
    namespace_labels: dict[str, str] = {}


class AuditEndpoint(Message, frozen=True):
    """Begin or end of an endpoint's audit, which outlives restarts."""

    endpoint: EndpointReference
    audit: bool
    """Let the packets through that policy would drop, and report them."""


class AwaitPrefixes(Message, frozen=True):
    """Request to answer once the node's ipcache has prefixes outside of the cluster."""

    prefixes: tuple[str, ...]
    """Prefixes such as ``10.0.0.0/8``."""
    timeout_seconds: float = 2.0


class AwaitAddresses(Message, frozen=True):
    """Request to answer once the node's ipcache has a pod's addresses under its identity."""

    addresses: tuple[str, ...]
    identity: Identity
    timeout_seconds: float = 1.0


class EndpointState(StrEnum):
    """Stages of a local endpoint's life."""

    WAITING_FOR_IDENTITY = "waiting-for-identity"
    """The identity service has not given it an identity yet."""
    WAITING_FOR_POLICY = "waiting-for-policy"
    """No policy of its identity is in force yet: all of its packets are dropped."""
    READY = "ready"
    DISCONNECTING = "disconnecting"
    """The kernel is clean of it, or about to be; its row and record go next."""


class AgentState(StrEnum):
    """Fitness of an agent for its work."""

    STARTING = "starting"
    """Young, and something is still missing."""
    READY = "ready"
    DEGRADED = "degraded"
    """Something has failed; its loops and ``last_error`` say what."""


class LocalEndpoint(Message, frozen=True):
    """An endpoint with all that its node knows of it."""

    id: EndpointId
    namespace: str
    name: str
    node: NodeName
    state: EndpointState
    identity: Identity
    labels: tuple[str, ...]
    """Security labels, sorted."""
    ipv4: str
    """Its IPv4 address; empty if it has none, as ``ipv6`` is."""
    gateway: str
    mac: str
    interface: str
    """Name of the device in the pod."""
    host_interface: str
    ifindex: int
    netns: str
    policy_revision: int = 0
    """Sequence of RESOLVED in force for it; 0: none, and all of its packets are dropped."""
    ipv6: str = ""
    gateway_ipv6: str = ""
    audit: bool = False
    """Packets that policy would drop are let through and reported."""
    known_everywhere: bool = True
    """Every node whose policy names its identity had that in force when the pod got it."""
    unaware_nodes: tuple[NodeName, ...] = ()
    """Nodes that had not: they may drop what it sends there first. None are named if nobody could
    tell.
    """


class LocalEndpoints(Message, frozen=True):
    """All endpoints of a node, by id."""

    endpoints: tuple[LocalEndpoint, ...]


class PolicyRule(Message, frozen=True):
    """One entry of an endpoint's policy map, as the kernel holds it."""

    key: PolicyKey
    entry: PolicyEntry


class EndpointPolicy(Message, frozen=True):
    """The policy in force for an endpoint."""

    endpoint: EndpointId
    identity: Identity
    revision: int
    rules: tuple[PolicyRule, ...]


class MapSummary(Message, frozen=True):
    """A BPF map of this node."""

    name: str
    kind: str
    key_bytes: int
    value_bytes: int
    entries: int
    """Number of entries; -1 where counting would mean to walk a large table."""
    max_entries: int
    memory_bytes: int


class MapList(Message, frozen=True):
    """All maps of this node."""

    maps: tuple[MapSummary, ...]


class MapQuery(Message, frozen=True):
    """Query for the contents of a map."""

    name: str
    limit: int = 1000


class MapContents(Message, frozen=True):
    """Entries of a map as fields of its key and value, addresses as text."""

    name: str
    entries: tuple[tuple[dict[str, int | str], dict[str, int | str]], ...]
    truncated: bool = False


class TableStatus(Message, frozen=True):
    """State of a node's copy of a table."""

    name: str
    complete: bool
    shards: int
    rows: int
    sequence: int
    resyncs: int
    """Number of snapshots asked for after a gap."""


class LoopName(StrEnum):
    """Names of what an agent keeps going."""

    REGISTRATION = "registration"
    ROWS = "rows"
    IPCACHE = "ipcache"
    BLOCKS = "blocks"
    HOST_ADDRESSES = "host addresses"
    POLICY = "policy"
    ROUTES = "routes"
    NON_MASQUERADE = "non-masquerade"
    DRIFT = "drift"
    FLOWS = "flows"
    FLOW_QUOTA = "flow quota"


class LoopStatus(Message, frozen=True):
    """State of a reconciler."""

    name: LoopName
    desired: int
    """Number of objects that it keeps."""
    pending: int
    """Number of objects that are not yet what they should be."""
    failures: int
    last_error: str = ""


class AgentStatus(Message, frozen=True):
    """Status of an agent, of its tables and its reconcilers."""

    node: NodeName
    state: AgentState
    version: str
    pid: int
    uptime_seconds: float
    ipv4: str
    pod_cidrs: tuple[str, ...]
    endpoints: int
    endpoints_ready: int
    rss_bytes: int
    bus_connected: bool
    tables: tuple[TableStatus, ...] = ()
    loops: tuple[LoopStatus, ...] = ()
    missing_features: tuple[str, ...] = ()
    """Kernel features that are missing, and that it does without."""
    defences_off: tuple[str, ...] = ()
    """Defences against pods that the kernel has no means for, a sentence each."""
    ipv6: str = ""
