"""Tables of the cluster that an agent hears, and its interest in each."""

from dataclasses import dataclass
from typing import Any, Final, Self

from cilia.bus import Bus
from cilia.contracts.ids import NodeName
from cilia.contracts.tables import (
    ENDPOINTS,
    NODES,
    ONE_SHARD,
    POLICIES,
    PREFIXES,
    RESOLVED,
    Endpoint,
    EndpointKey,
    Node,
    PolicyEntry,
    PolicyObject,
    PrefixRow,
    SubjectKey,
)
from cilia.table.subscriber import ALL, TableSubscriber

GATHER_SECONDS: Final = 0.02
"""Longest wait for the other shards that one revision of policies changed, so that all come into
force at once.
"""


@dataclass(frozen=True, slots=True)
class Tables:
    """Mirrors of the cluster's tables."""

    nodes: TableSubscriber[NodeName, Node]
    endpoints: TableSubscriber[EndpointKey, Endpoint]
    resolved: TableSubscriber[SubjectKey, PolicyEntry]
    """Policy of the identities that live here; its reconciler adds and drops shards."""
    prefixes: TableSubscriber[str, PrefixRow]
    policies: TableSubscriber[str, PolicyObject]
    """Policies, for the names behind cookies."""

    @classmethod
    def subscribe(cls, bus: Bus, node: NodeName) -> Self:
        """Make the mirrors; they fill once their loops run."""
        return cls(
            nodes=TableSubscriber(bus, NODES, [ONE_SHARD]),
            endpoints=TableSubscriber(bus, ENDPOINTS, ALL),
            resolved=TableSubscriber(bus, RESOLVED, name=node, assembly_seconds=GATHER_SECONDS),
            prefixes=TableSubscriber(bus, PREFIXES, [ONE_SHARD]),
            policies=TableSubscriber(bus, POLICIES, [ONE_SHARD]),
        )

    def named(self) -> dict[str, TableSubscriber[Any, Any]]:
        """Return the mirrors by their tables' names."""
        return {
            "nodes": self.nodes,
            "endpoints": self.endpoints,
            "resolved": self.resolved,
            "prefixes": self.prefixes,
            "policies": self.policies,
        }
