"""Reserved identities and ranges, numbered as in Cilium (pkg/identity/numericidentity.go)."""

from enum import IntEnum
from typing import Final

from cilia.contracts.ids import Identity


class Reserved(IntEnum):
    """Identities that exist without being allocated; the label of each is ``reserved:<name>``."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10

    @property
    def label(self) -> str:
        """The label that selects it, such as ``reserved:remote-node``."""
        return f"reserved:{self.name.lower().replace('_', '-')}"


FIRST_ALLOCATED: Final = 256
LAST_ALLOCATED: Final = 65_535
CLUSTER_ID_SHIFT: Final = 16

PREFIX_SCOPE: Final = 1 << 24
"""Bit in the identities of prefixes outside of the cluster; VXLAN carries 24 bits, so they never
travel.
"""


def prefix_range() -> range:
    """Return the identities that prefixes may be given."""
    return range(PREFIX_SCOPE + 1, 2 * PREFIX_SCOPE)


NODE_SCOPE: Final = 2 << 24
"""Bit in the identities of nodes with labels; in tunnels each is just a remote node."""


def node_range() -> range:
    """Return the identities that label sets of nodes may be given."""
    return range(NODE_SCOPE + 1, NODE_SCOPE + PREFIX_SCOPE)


PROVISIONAL_SCOPE: Final = 3 << 24
"""First of the identities that stand for prefixes while a policy is only tried; no node sees one.
"""


def cluster_range(cluster_id: int) -> range:
    """Return the identities that cluster ``cluster_id`` (0..255) may allocate."""
    base = cluster_id << CLUSTER_ID_SHIFT
    return range(base + FIRST_ALLOCATED, base + LAST_ALLOCATED + 1)


def is_remote_node(identity: Identity) -> bool:
    """Tell whether an identity is another node's: of its labels, or the one of all nodes."""
    # as plain numbers: a range looks for a member of an enum by walking
    return int(identity) == Reserved.REMOTE_NODE or int(identity) in node_range()


def is_reserved(identity: Identity) -> bool:
    """Tell whether the identity exists without allocation."""
    return identity < FIRST_ALLOCATED
