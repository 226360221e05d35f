"""Directory of the running cluster: whose a name or an address is. Pure.

It looks through all endpoints and nodes: it is asked by people, not by packets.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import Labels, node
from cilia.contracts.tables import Endpoint, Node
from cilia.policy.explain.parties import Owner


@dataclass(frozen=True, slots=True)
class ClusterDirectory:
    """Endpoints and nodes as they are now; a :class:`~cilia.policy.explain.parties.Directory`."""

    endpoints: Collection[Endpoint]
    nodes: Sequence[Node]
    labels: Mapping[Identity, Labels]
    """Labels of all identities."""

    def pod(self, name: str) -> Owner | None:
        """Return a pod by ``namespace/name``."""
        namespace, _, own = name.partition("/")
        return next((_pod(row) for row in self.endpoints if row.name == own and row.namespace == namespace), None)

    def at(self, address: str) -> Owner | None:
        """Return the pod or the node that has an address."""
        for row in self.endpoints:
            if address in (row.ipv4, row.ipv6):
                return _pod(row)
        for machine in self.nodes:
            if address in (machine.ipv4, machine.ipv6, *machine.gateways):
                return Owner(machine.name, self._identity(machine), machine.name, is_node=True)
        return None

    def _identity(self, machine: Node) -> Identity:
        """Return the identity that a node has to other nodes: that of its labels, if it has any."""
        own = node(machine.labels)
        known = (identity for identity, labels in self.labels.items() if own and labels == own)
        return next(known, Identity(Reserved.REMOTE_NODE))


def _pod(row: Endpoint) -> Owner:
    return Owner(f"{row.namespace}/{row.name}", row.identity, row.node)
