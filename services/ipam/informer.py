"""The loop that follows etcd: the only writer of the cache and of the tables' state."""

import asyncio
from dataclasses import dataclass, field

from cilia.contracts.ids import NodeName
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Node, Pool
from cilia.kvstore import Changes, Etcd, Reset, replicate
from cilia.owner import hand_over
from cilia.table.publisher import TablePublisher
from services.ipam.cache import Change, IpamCache, NodeChange, PoolChange


@dataclass(frozen=True, slots=True)
class IpamInformer:
    """Feeds the cache, and from it the two tables."""

    etcd: Etcd
    keys: Keys
    epoch: int
    cache: IpamCache
    nodes: TablePublisher[NodeName, Node]
    pools: TablePublisher[str, Pool]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        keys = self.keys
        async for step in replicate(self.etcd, keys.root, (keys.nodes, keys.pools, keys.blocks, keys.former_grants)):
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
            self.cache.clear()
            folded = [self.cache.put(each.key, each.value) for each in step.records]
        else:
            folded = [
                self.cache.delete(each.key) if each.removed else self.cache.put(each.key, each.record.value)
                for each in step.events
            ]
        return [change for change in folded if change is not None]
