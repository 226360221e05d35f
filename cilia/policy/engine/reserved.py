"""Labels of the identities that no workload has: the reserved ones, and those of prefixes."""

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import Label, Labels
from cilia.policy.engine.rules import CIDR, Prefix, cidr_label


def reserved_labels(dual_stack: bool) -> dict[Identity, Labels]:
    """Return the labels of the reserved identities, with the prefixes of the world's."""
    labels = {Identity(item): {Label.parse(item.label)} for item in Reserved if item is not Reserved.UNKNOWN}
    labels[Identity(Reserved.KUBE_APISERVER)].add(Label.parse(Reserved.REMOTE_NODE.label))
    labels[Identity(Reserved.WORLD_IPV4 if dual_stack else Reserved.WORLD)].add(Label(CIDR, "0.0.0.0/0", ""))
    labels[Identity(Reserved.WORLD_IPV6)].add(Label(CIDR, "0--/0", ""))
    return {identity: frozenset(texts) for identity, texts in labels.items()}


def world_of(prefix: Prefix, *, dual_stack: bool = True) -> Identity:
    """Return the identity of the addresses outside of the cluster that no policy names."""
    if not dual_stack:
        return Identity(Reserved.WORLD)
    return Identity(Reserved.WORLD_IPV4 if prefix.version == 4 else Reserved.WORLD_IPV6)


def labels_of_prefix(prefix: Prefix, *, dual_stack: bool = True) -> Labels:
    """Return the labels of the identity that stands for a prefix outside of the cluster."""
    world = Reserved(world_of(prefix, dual_stack=dual_stack))
    return frozenset({cidr_label(prefix), Label.parse(world.label)})
