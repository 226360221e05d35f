"""Cache of ipam: etcd's keys folded into nodes, blocks and pools. Pure; one loop writes it.

The cache may lag behind etcd. It proposes which block to grant; a transaction decides.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.keys import Block, FormerGrant, Keys
from cilia.contracts.tables import NODES, POOLS, STALE_NODES, Node, Pool, Staleness
from cilia.owner.cache import RowChange
from services.ipam.pools import AddressPool

_NODE: Final = msgspec.json.Decoder(Node)
_POOL: Final = msgspec.json.Decoder(Pool)
_BLOCK: Final = msgspec.json.Decoder(Block)
_STALENESS: Final = msgspec.json.Decoder(Staleness)
_FORMER_GRANT: Final = msgspec.json.Decoder(FormerGrant)


Change = RowChange[Any, Any]


class Mark(NamedTuple):
    """Mark of a stale node, and the revision that wrote it."""

    row: Staleness
    revision: Revision


class IpamCache:
    """Nodes, pools, and which blocks are whose."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.prefixes = (keys.nodes, keys.pools, keys.blocks, keys.former_grants, keys.stale)
        """Prefixes of the keys that it folds."""
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._nodes: dict[NodeName, Node] = {}
        self._pools: dict[str, AddressPool] = {}
        self._blocks: dict[str, Block] = {}
        self._taken: dict[str, set[str]] = {}
        self._former_grants: dict[NodeName, tuple[str, ...]] = {}
        self.stale: dict[NodeName, Mark] = {}
        """Nodes whose agents are silent."""

    @property
    def nodes(self) -> Mapping[NodeName, Node]:
        """The registered nodes."""
        return self._nodes

    @property
    def pools(self) -> Mapping[str, AddressPool]:
        """The pools."""
        return self._pools

    def taken(self, pool: str) -> frozenset[str]:
        """Return the granted blocks of a pool."""
        return frozenset(self._taken.get(pool, ()))

    def pool_of(self, cidr: str) -> str | None:
        """Return the name of the pool that ``cidr`` is a block of, if any."""
        return next((name for name, pool in self._pools.items() if pool.contains(cidr)), None)

    def regainable(self, node: NodeName, claimed: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the free blocks of a node's former grant, in the order in which it got them, and
        those that it claims beside.
        """
        former = dict.fromkeys((*self._former_grants.get(node, ()), *claimed))
        return tuple(cidr for cidr in former if (pool := self.pool_of(cidr)) and cidr not in self._taken.get(pool, ()))

    def remembered(self, node: NodeName) -> set[str]:
        """Return the blocks that absent nodes other than ``node`` had."""
        absent = (cidrs for other, cidrs in self._former_grants.items() if other not in self._nodes and other != node)
        return {cidr for cidrs in absent for cidr in cidrs}

    def put(self, key: str, value: bytes, revision: Revision) -> Iterable[Change]:
        """Fold a written key in; return the changes of tables that it means."""
        keys = self._keys
        if key.startswith(keys.nodes):
            node = _NODE.decode(value)
            self._nodes[node.name] = node
            return (RowChange(NODES, node.name, node),)
        if key.startswith(keys.pools):
            name, row = key.removeprefix(keys.pools), _POOL.decode(value)
            self._pools[name] = AddressPool.from_row(name, row)
            return (RowChange(POOLS, name, row),)
        if key.startswith(keys.stale):
            silent, mark = NodeName(key.removeprefix(keys.stale)), _STALENESS.decode(value)
            self.stale[silent] = Mark(mark, revision)
            return (RowChange(STALE_NODES, silent, mark),)
        if key.startswith(keys.blocks):
            block = _BLOCK.decode(value)
            self._blocks[key] = block
            self._taken.setdefault(block.pool, set()).add(block.cidr)
        elif key.startswith(keys.former_grants):
            self._former_grants[NodeName(key.removeprefix(keys.former_grants))] = _FORMER_GRANT.decode(value).cidrs
        return ()

    def delete(self, key: str) -> Iterable[Change]:
        """Fold a deleted key in; return the changes of tables that it means."""
        keys = self._keys
        if key.startswith(keys.nodes):
            name = NodeName(key.removeprefix(keys.nodes))
            self._nodes.pop(name, None)
            return (RowChange(NODES, name, None),)
        if key.startswith(keys.pools):
            pool = key.removeprefix(keys.pools)
            self._pools.pop(pool, None)
            return (RowChange(POOLS, pool, None),)
        if key.startswith(keys.stale):
            silent = NodeName(key.removeprefix(keys.stale))
            self.stale.pop(silent, None)
            return (RowChange(STALE_NODES, silent, None),)
        if key.startswith(keys.blocks):
            block = self._blocks.pop(key, None)
            if block is not None:
                self._taken[block.pool].discard(block.cidr)
        elif key.startswith(keys.former_grants):
            self._former_grants.pop(NodeName(key.removeprefix(keys.former_grants)), None)
        return ()
