"""The label sets of what has an identity by its address, as the peer's.

A prefix outside of the cluster: itself, and the world of its family. A node: its labels, and that
it is one.
"""

from functools import lru_cache
from ipaddress import ip_network

from cilia.contracts.identities import Reserved
from cilia.contracts.labels import Labels, canonical, node
from cilia.contracts.tables import Node
from cilia.policy.engine.reserved import labels_of_prefix
from cilia.policy.engine.rules import CIDR, parse_prefix
from services.identity.errors import BadField


@lru_cache(maxsize=65_536)
def prefix_labels(prefix: str) -> str:
    """Return the canonical labels of a prefix such as ``10.0.0.0/8``.

    Raises:
        BadField: It is none, has bits behind its length, or is all of its family, which is the
            world.
    """
    try:
        network = ip_network(prefix)
    except ValueError as error:
        raise BadField("prefixes", prefix, str(error)) from error
    if not network.prefixlen:
        raise BadField("prefixes", prefix, "all addresses are the world, which has an identity")
    return canonical(labels_of_prefix(network))


@lru_cache(maxsize=65_536)
def node_labels(texts: tuple[str, ...]) -> str:
    """Return the canonical labels of a node with labels such as ``zone=a``; empty for one without.

    Raises:
        BadLabel: A text is no label, or a key has two values.
    """
    return canonical(node(texts))


def is_of_node(labels: str) -> bool:
    """Tell whether canonical labels are those of a node."""
    return f"{Reserved.REMOTE_NODE.label}=;" in labels


def node_prefixes(row: Node) -> tuple[str, ...]:
    """Return a node's own addresses as prefixes."""
    return tuple(str(ip_network(address)) for address in (row.ipv4, row.ipv6, *row.gateways) if address)


def prefix_of(labels: Labels) -> str:
    """Return the prefix that labels stand for; empty if for none."""
    return next((str(parse_prefix(label.key)) for label in labels if label.source == CIDR), "")
