"""Entities: named groups of peers that need no labels to be known."""

from typing import Final

from cilia.contracts.labels import CLUSTER
from cilia.policy.engine.rules import NAMESPACED, RESERVED, Operator, Requirement, Selector
from cilia.policy.language.documents import Field

_ALL: Final = "all"
_NODES: Final = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
_MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    "world": ("world", "world-ipv4", "world-ipv6"),
    "world-ipv4": ("world-ipv4",),
    "world-ipv6": ("world-ipv6",),
    "cluster": _NODES,
    **{name: (name,) for name in _NODES},
}


def read_entities(at: Field, cluster: str) -> tuple[Selector, ...] | None:
    """Return the selectors of a list of entities; None if ``all`` is among them."""
    names = [item.one_of((_ALL, *_MEMBERS)) for item in at.items()]
    if _ALL in names:
        return None
    selectors = [_reserved(member) for name in names for member in _MEMBERS[name]]
    if "cluster" in names:
        selectors.append(_workloads(cluster))
    return tuple(dict.fromkeys(selectors))


def _reserved(name: str) -> Selector:
    return Selector((Requirement(RESERVED, name, Operator.EXISTS),))


def _workloads(cluster: str) -> Selector:
    return Selector((Requirement("k8s", CLUSTER, Operator.IN, (cluster,)) if cluster else NAMESPACED,))
