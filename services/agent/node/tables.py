"""The tables that an agent hears, and its interest in each."""

from collections.abc import Callable, Iterable, Mapping
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
from cilia.lifecycle import Loop
from cilia.table.subscriber import ALL, TableSubscriber

GATHER_SECONDS: Final = 0.02
"""How long the shards that one revision of policies changed are waited for, to come into force at
once.
"""

FeedNodes = Callable[[Mapping[NodeName, Node], Iterable[NodeName]], None]
"""Takes changes of the table of nodes: upserts and removes."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Mirrors of the cluster's tables."""

    nodes: TableSubscriber[NodeName, Node]
    endpoints: TableSubscriber[EndpointKey, Endpoint]
    resolved: TableSubscriber[SubjectKey, PolicyEntry]
    """Only the subjects that live here; their realiser adds and drops shards."""
    prefixes: TableSubscriber[str, PrefixRow]
    policies: TableSubscriber[str, PolicyObject]
    """For the names behind cookies."""

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

    def loops(self) -> dict[str, Loop]:
        """Return the loops to supervise."""
        return {f"table {name}": table.run for name, table in self.named().items()}


async def watch_nodes(nodes: TableSubscriber[NodeName, Node], feeds: Iterable[FeedNodes]) -> None:
    """Hand each change of the table of nodes to all who need it, until cancelled."""
    feeds = tuple(feeds)
    async for changes in nodes.changes():
        for change in changes:
            for feed in feeds:
                feed(change.upserts, change.removes)
