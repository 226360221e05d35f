"""The tables that services share: their rows, keys and shards.

A table has one writing service, a key, a row and a sequence; where it lives in etcd, etcd's
revision is the sequence. Rows travel as msgpack arrays (:mod:`cilia.contracts.distribution`):
fields are only ever appended, with a default.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Generic, TypeVar

from msgspec import Struct

from cilia.contracts.ids import EndpointId, Identity, NamedPort, NodeName

K = TypeVar("K")
V = TypeVar("V")


class Row(Struct, frozen=True, array_like=True, gc=False):
    """A row of a table, or a key of one: immutable, its fields appended to and never reordered.

    The collector of cycles passes it by, since it can be part of none: a service holds millions.
    """


class Node(Row, frozen=True):
    """A machine that runs pods. Writer: ipam. Key: its name."""

    name: NodeName
    ipv4: str
    """Address on the underlay; VTEP of the VXLAN tunnel."""
    ipv6: str = ""
    labels: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    """Blocks that its agent allocates from, in the order in which they were granted."""
    addresses: tuple[str, ...] = ()
    """Addresses of its devices by which other nodes may meet it; ``ipv4`` and ``ipv6`` may be
    among them.
    """

    @property
    def gateways(self) -> tuple[str, ...]:
        """Gateway of its pods for each family: the first usable address of the first block."""
        first: dict[int, str] = {}
        for block in map(ip_network, self.pod_cidrs):
            first.setdefault(block.version, str(block[1]))
        return tuple(first.values())


class Staleness(Row, frozen=True):
    """Silence of a node's agent. Writer: ipam's elected replica. Key: the node's name.

    It changes nothing of what the node has: pods, routes and verdicts stay.
    """

    since_ns: int
    """Unix time in ns of its last heartbeat, or of the moment since which one is awaited."""
    dead_after_seconds: float = 0.0
    """Seconds of silence after which it is declared dead, and removed; 0: never.

    Only time in which ipam hears at least half of the nodes counts.
    """


class IdentityRow(Row, frozen=True):
    """An allocated security identity. Writer: identity. Key: its number."""

    labels: tuple[str, ...]
    """Security labels, sorted (cilia.contracts.labels)."""


class PrefixRow(Row, frozen=True):
    """A prefix outside of the cluster that policies name, or the address of a node that has labels.

    Writer: identity. Key: the prefix, such as ``10.0.0.0/8``.

    It goes before the identity does, so that no packet is classified as what no policy knows any
    more.
    """

    identity: Identity


class Endpoint(Row, frozen=True):
    """The addresses and the identity of a pod, and the node that it runs on.

    Writer: identity, on request of the pod's node. Key: :class:`EndpointKey`.
    """

    node: NodeName
    id: EndpointId
    identity: Identity
    ipv4: str
    ipv6: str = ""
    namespace: str = ""
    name: str = ""
    named_ports: tuple[NamedPort, ...] = ()


class EndpointKey(Row, frozen=True):
    """Key of an endpoint in the cluster."""

    node: NodeName
    id: EndpointId


class Pool(Row, frozen=True):
    """Addresses from which nodes get their blocks. Writer: ipam. Key: its name."""

    cidr: str
    block_prefix: int
    """Prefix length of a node's block, such as 26."""


FIRST_PEER_SET: Final = 1 << 31
"""First number that is no identity but names, in a subject's entries, a set of peers that share
entries.
"""


class PolicyKey(Row, frozen=True, cache_hash=True):
    """The packets of one subject identity that an entry is for; key within the subject's shard.

    The longest match of protocol and port wins for one ``identity``; 0 as identity means any peer,
    and a number from FIRST_PEER_SET on the members of a set (:class:`PolicyEntry`). See
    bpf/maps/policy.h.
    """

    egress: bool
    identity: Identity
    protocol: int
    """IP protocol number; 0 means any, and then ``port_bits`` is 0."""
    port: int
    """Destination port, or ICMP type; host byte order, masked to its leading ``port_bits``."""
    port_bits: int
    """Leading bits of the port that must match: 0 (any port) to 16 (this one)."""


class PolicyEntry(Row, frozen=True):
    """The verdict on the packets of a :class:`PolicyKey`. Writer: policy."""

    deny: bool
    precedence: int
    """Rank of the entry of the peer's identity against the one of any, 32 bits; the higher wins."""
    cookie: int = 0
    """Number of the policy object behind the entry (:func:`policy_cookie`); 0 means the default of
    the enforcement mode.
    """
    audit: bool = False
    peer_set: int = 0
    """Set that the peer is a member of; 0: none.

    A member's entries are those under the set's number, as an identity; this entry, which gives no
    verdict itself, is then the only one of the peer in its direction.
    """


class PolicyObject(Row, frozen=True):
    """A policy as its user wrote it. Writer: policy. Key: :func:`policy_object_key`."""

    kind: str
    namespace: str
    name: str
    document: str
    """The object as JSON, as it was accepted."""
    author: str = ""
    applied_ns: int = 0
    """Unix time in ns."""
    traceparent: str = ""
    """W3C trace context of the request that applied it."""
    owner: str = ""
    """Owner that keeps it as its files say (``policy.sync``); empty: it was applied by itself."""
    file: str = ""
    """File of its owner that it is from."""
    prefixes: tuple[str, ...] = ()
    """Prefixes that it names and that need an identity, such as ``10.0.0.0/8``."""


def policy_object_key(kind: str, namespace: str, name: str) -> str:
    """Return ``<kind>/<namespace>/<name>``; the namespace is empty for clusterwide objects."""
    return f"{kind}/{namespace}/{name}"


def policy_cookie(object_key: str) -> int:
    """Return the 32-bit name of a policy object in map entries and events; never 0."""
    return zlib.crc32(object_key.encode()) or 1


ONE_SHARD: Final = "all"


def _bucket(text: str, buckets: int) -> str:
    return str(zlib.crc32(text.encode()) % buckets)


@dataclass(frozen=True)
class Table(Generic[K, V]):
    """Description of a shared table.

    Attributes:
        name: Its token in subjects.
        owner: The service that writes it.
        key, row: Types of its keys and rows, for typed decoding.
        shard: Gives the shard of a row; a NATS token. Agents hear only the shards they ask for.
    """

    name: str
    owner: str
    key: type[K]
    row: type[V]
    shard: Callable[[K], str]


NODES: Final = Table[NodeName, Node]("nodes", "ipam", str, Node, lambda _: ONE_SHARD)  # type: ignore[arg-type]
STALE_NODES: Final = Table[NodeName, Staleness](
    "stale",
    "ipam",
    str,  # type: ignore[arg-type]
    Staleness,
    lambda _: ONE_SHARD,
)
"""Nodes that are silent; a table of its own, since agents must not depend on it."""
POOLS: Final = Table[str, Pool]("pools", "ipam", str, Pool, lambda _: ONE_SHARD)
IDENTITIES: Final = Table[Identity, IdentityRow](
    "identities",
    "identity",
    int,  # type: ignore[arg-type]
    IdentityRow,
    lambda identity: str(identity % 64),
)
PREFIXES: Final = Table[str, PrefixRow]("prefixes", "identity", str, PrefixRow, lambda _: ONE_SHARD)
ENDPOINTS: Final = Table[EndpointKey, Endpoint](
    "endpoints", "identity", EndpointKey, Endpoint, lambda key: _bucket(key.node, 256)
)
POLICIES: Final = Table[str, PolicyObject]("policies", "policy", str, PolicyObject, lambda _: ONE_SHARD)


class SubjectKey(Row, frozen=True, cache_hash=True):
    """Key of one policy entry in the cluster: the subject's identity and the entry's key."""

    subject: Identity
    key: PolicyKey


RESOLVED: Final = Table[SubjectKey, PolicyEntry](
    "resolved", "policy", SubjectKey, PolicyEntry, lambda key: str(key.subject)
)
"""Resolved policy, one shard per subject identity: an agent hears the identities that live on its
node.
"""
