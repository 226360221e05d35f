"""Labels of the reserved identities, as selectors see them."""

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import Label, Labels
from cilia.policy.engine.rules import CIDR


def reserved_labels(dual_stack: bool) -> dict[Identity, Labels]:
    """Return the labels of the reserved identities, with the prefixes of the world's."""
    labels = {Identity(item): {Label.parse(item.label)} for item in Reserved if item is not Reserved.UNKNOWN}
    labels[Identity(Reserved.KUBE_APISERVER)].add(Label.parse(Reserved.REMOTE_NODE.label))
    labels[Identity(Reserved.WORLD_IPV4 if dual_stack else Reserved.WORLD)].add(Label(CIDR, "0.0.0.0/0", ""))
    labels[Identity(Reserved.WORLD_IPV6)].add(Label(CIDR, "0--/0", ""))
    return {identity: frozenset(texts) for identity, texts in labels.items()}
