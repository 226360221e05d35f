"""The loop that follows etcd: the only writer of the registry and of the tables' state."""

import asyncio
from dataclasses import dataclass, field

from cilia.contracts.ids import NodeName
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Node, Pool
from cilia.kvstore import Changes, Etcd, Reset, replicate
from cilia.owner import hand_over
from cilia.table.publisher import TablePublisher
from services.ipam.registry import Change, NodeChange, PoolChange, Registry


@dataclass(frozen=True, slots=True)
class Mirror:
    """Feeds the registry, and from it the two tables."""

    etcd: Etcd
    keys: Keys
    epoch: int
    registry: Registry
    nodes: TablePublisher[NodeName, Node]
    pools: TablePublisher[str, Pool]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        keys = self.keys
        async for step in replicate(self.etcd, keys.root, (keys.nodes, keys.pools, keys.blocks, keys.helds)):
            self._take(step)
            self.ready.set()

    def _take(self, step: Reset | Changes) -> None:
        nodes: dict[NodeName, Node | None] = {}
        pools: dict[str, Pool | None] = {}
        for change in self._fold(step):
            match change:
                case NodeChange(name, node):
                    nodes[name] = node
                case PoolChange(pool, row):
                    pools[pool] = row
        hand_over(self.nodes, nodes, step, epoch=self.epoch)
        hand_over(self.pools, pools, step, epoch=self.epoch)

    def _fold(self, step: Reset | Changes) -> list[Change]:
        if isinstance(step, Reset):
            self.registry.clear()
            folded = [self.registry.put(each.key, each.value) for each in step.records]
        else:
            folded = [
                self.registry.delete(each.key) if each.removed else self.registry.put(each.key, each.record.value)
                for each in step.events
            ]
        return [change for change in folded if change is not None]
