"""Distinct ids, so that a number of one kind is never passed for another."""

from typing import NewType

Identity = NewType("Identity", int)
"""Numeric security identity: 24 bits, the cluster id in bits 16..23."""

EndpointId = NewType("EndpointId", int)
"""Number of an endpoint on its node: 1..65535, the peer's range."""

NodeName = NewType("NodeName", str)
"""Unique in the cluster; lower case letters, digits and dashes, at most 63 characters (RFC 1123
label).
"""

Revision = NewType("Revision", int)
"""Position in the history of the kvstore; etcd's revision."""

LeaseId = NewType("LeaseId", int)
"""A lease in the kvstore; 0 means none."""
