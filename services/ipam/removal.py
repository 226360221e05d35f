"""Removal of nodes: row, blocks and endpoints go in one transaction, so that nobody is granted a
block of which endpoints still say that it is the former owner's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec

from cilia.backoff import Backoff
from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import Node
from cilia.kvstore import Compare, Etcd, Record, Txn, delete, delete_prefix, get, put, unchanged
from services.ipam.cache import IpamCache
from services.ipam.errors import NodeLives, NoSuchPool, TooContended

ATTEMPTS: Final = 20
FIRST_PAUSE_SECONDS: Final = 0.002
LONGEST_PAUSE_SECONDS: Final = 0.1
BLOCKS_AT_ONCE: Final = 64
"""Blocks that one transaction frees; a node that has more loses them piece by piece."""

ANY: Final = Incarnation(0)

_NODE: Final = msgspec.json.Decoder(Node)


@dataclass(frozen=True, slots=True)
class Removal:
    """Carries out removals."""

    etcd: Etcd
    keys: Keys
    cache: IpamCache
    random: Random

    async def unregister(self, node: NodeName, incarnation: Incarnation, *, only_stale: bool) -> Revision:
        """Remove a node and forget what it had; one that is gone, or came anew, is fine.

        Args:
            incarnation: The one that is meant; 0: any.

        Raises:
            NodeLives: It is not stale, and would have to be.
            TooContended, Unavailable: Try again.
        """
        conditions: tuple[Compare, ...] = ()
        if only_stale:
            mark = await self.etcd.get(self.keys.stale_node(node))
            if mark is None and await self.etcd.get(self.keys.node(node)) is not None:
                raise NodeLives(node)
            conditions = (unchanged(self.keys.stale_node(node), mark.mod_revision),) if mark is not None else ()
        removed = await self.remove(node, incarnation, conditions=conditions)
        if removed is None:
            raise NodeLives(node)
        return Revision(await self.etcd.delete(self.keys.former_grant(node)))

    async def remove(
        self, node: NodeName, incarnation: Incarnation = ANY, *, conditions: Sequence[Compare] = ()
    ) -> Revision | None:
        """Remove a node; its former blocks are still its first choice when it returns.

        Args:
            conditions: What must hold beside; None is returned if it doesn't.

        Raises:
            TooContended, Unavailable: Try again.
        """
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self.random.uniform)
        for _ in range(ATTEMPTS):
            found = await self.etcd.get(self.keys.node(node))
            if found is None or incarnation not in (ANY, found.create_revision):
                return Revision(0 if found is None else found.create_revision)
            outcome = await self.etcd.txn(self._transaction(node, found, conditions))
            if not outcome.succeeded and outcome.value(self.keys.node(node)) == found.value:
                return None
            if outcome.succeeded and len(_NODE.decode(found.value).pod_cidrs) <= BLOCKS_AT_ONCE:
                return Revision(outcome.revision)
            if not outcome.succeeded:
                await backoff.pause()
        raise TooContended(f"removal of node {node}", ATTEMPTS)

    def _transaction(self, node: NodeName, found: Record, conditions: Sequence[Compare]) -> Txn:
        key, row = self.keys.node(node), _NODE.decode(found.value)
        kept, freed = row.pod_cidrs[:-BLOCKS_AT_ONCE], row.pod_cidrs[-BLOCKS_AT_ONCE:]
        rest = msgspec.structs.replace(row, pod_cidrs=kept)
        ops = [
            delete_prefix(self.keys.endpoints_of(node)),
            *(delete(self._block_key(cidr)) for cidr in freed),
            *([put(key, msgspec.json.encode(rest))] if kept else [delete(key), delete(self.keys.stale_node(node))]),
        ]
        return Txn((unchanged(key, found.mod_revision), *conditions), ops, (get(key),))

    def _block_key(self, cidr: str) -> str:
        pool = self.cache.pool_of(cidr)
        if pool is None:
            raise NoSuchPool(cidr, tuple(self.cache.pools))
        return self.keys.block(pool, cidr)
