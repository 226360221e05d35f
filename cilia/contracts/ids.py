"""Distinct ids, so that a number of one kind is never passed for another."""

from typing import NewType

Identity = NewType("Identity", int)
"""Numeric security identity, 32 bits: the scope in bits 24..31 (0 for labels of pods, others in
:mod:`cilia.contracts.identities`), and in that scope the cluster id in bits 16..23.
"""

EndpointId = NewType("EndpointId", int)
"""Number of an endpoint on its node: 1..65535, Cilium's range."""

NodeName = NewType("NodeName", str)
"""Name of a node, unique in the cluster; an RFC 1123 label of at most 63 characters."""

Revision = NewType("Revision", int)
"""Position in the history of the kvstore; etcd's revision."""

Incarnation = NewType("Incarnation", int)
"""One membership of a node, from its registration until it is removed: etcd's revision at which the
node's row was made; 0 means none.
"""

NamedPort = tuple[str, str, int]
"""(name, protocol, port) of a port that policies may name."""
