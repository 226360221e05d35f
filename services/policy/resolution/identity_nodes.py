"""Nodes of identities: on which nodes the endpoints of each identity live. Pure."""

from collections.abc import Mapping, Set

from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.tables import EndpointKey
from services.policy.resolution.events import EndpointEvent


class IdentityNodes:
    """Numbers of endpoints by identity and node."""

    def __init__(self) -> None:
        self._identities: dict[EndpointKey, Identity] = {}
        self._counts: dict[Identity, dict[NodeName, int]] = {}
        self._on: dict[NodeName, set[Identity]] = {}

    @property
    def counts(self) -> Mapping[Identity, Mapping[NodeName, int]]:
        """Identity -> node -> how many endpoints."""
        return self._counts

    @property
    def nodes(self) -> Set[NodeName]:
        """Nodes that have endpoints."""
        return self._on.keys()

    def on(self, node: NodeName) -> Set[Identity]:
        """Return the identities that have endpoints on a node."""
        return self._on.get(node, frozenset())

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._identities.clear()
        self._counts.clear()
        self._on.clear()

    def take(self, event: EndpointEvent) -> bool:
        """Fold an endpoint's change in; tell whether its node has none any more."""
        before = self._identities.pop(event.key, None)
        if before is not None:
            self._leave(before, event.key.node)
        if event.row is not None:
            self._identities[event.key] = event.row.identity
            nodes = self._counts.setdefault(event.row.identity, {})
            nodes[event.key.node] = nodes.get(event.key.node, 0) + 1
            self._on.setdefault(event.key.node, set()).add(event.row.identity)
        return event.key.node not in self._on

    def _leave(self, identity: Identity, node: NodeName) -> None:
        nodes = self._counts[identity]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
            self._on[node].discard(identity)
            if not self._on[node]:
                del self._on[node]
        if not nodes:
            del self._counts[identity]
