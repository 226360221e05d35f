"""The label sets of prefixes outside of the cluster, as the peer's: the prefix, and the world of its family."""

from functools import lru_cache
from ipaddress import ip_network

from cilia.contracts.identities import Reserved
from cilia.contracts.labels import Label, Labels, canonical
from cilia.policy.rules import CIDR, cidr_label, parse_prefix
from services.identity.errors import BadField


@lru_cache(maxsize=65_536)
def prefix_labels(prefix: str) -> str:
    """Return the canonical labels of a prefix such as ``10.0.0.0/8``.

    Raises:
        BadField: It is none, has bits behind its length, or is all of its family, which is the world.
    """
    try:
        network = ip_network(prefix)
    except ValueError as error:
        raise BadField("prefixes", prefix, str(error)) from error
    if not network.prefixlen:
        raise BadField("prefixes", prefix, "all addresses are the world, which has an identity")
    world = Reserved.WORLD_IPV4 if network.version == 4 else Reserved.WORLD_IPV6
    return canonical(frozenset({cidr_label(network), Label.parse(world.label)}))


def prefix_of(labels: Labels) -> str:
    """Return the prefix that labels stand for; empty if for none."""
    return next((str(parse_prefix(label.key)) for label in labels if label.source == CIDR), "")
