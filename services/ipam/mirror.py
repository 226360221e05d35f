"""The loop that follows etcd: the only writer of the registry and of the tables' state."""

import asyncio
from dataclasses import dataclass, field

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node, Pool
from cilia.kvstore import Batch, Replica
from cilia.owner import hand_over
from cilia.table.publisher import TablePublisher
from services.ipam.registry import NodeChange, PoolChange, Registry


@dataclass(frozen=True, slots=True)
class Mirror:
    """Feeds the registry, and from it the two tables, one commit for each of etcd's revisions."""

    replica: Replica
    registry: Registry
    nodes: TablePublisher[NodeName, Node]
    pools: TablePublisher[str, Pool]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        async for batch in self.replica.batches():
            self._fold(batch)
            self.ready.set()

    def _fold(self, batch: Batch) -> None:
        if batch.whole:
            self.registry.clear()
        nodes: dict[NodeName, Node | None] = {}
        pools: dict[str, Pool | None] = {}
        for change in batch.changes:
            match self.registry.fold(change.key, change.value):
                case NodeChange(name, node):
                    nodes[name] = node
                case PoolChange(pool, row):
                    pools[pool] = row
                case None:
                    pass
        hand_over(self.nodes, nodes, batch, epoch=self.replica.epoch)
        hand_over(self.pools, pools, batch, epoch=self.replica.epoch)
