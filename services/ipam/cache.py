"""What a replica of ipam knows: etcd's keys folded into nodes, blocks and pools.

Pure; one loop writes it.

The cache may lag behind etcd. It proposes which block to grant; a transaction decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.ids import NodeName
from cilia.contracts.keys import Block, FormerGrant, Keys
from cilia.contracts.tables import Node, Pool
from services.ipam.pools import AddressPool

_NODE: Final = msgspec.json.Decoder(Node)
_POOL: Final = msgspec.json.Decoder(Pool)
_BLOCK: Final = msgspec.json.Decoder(Block)
_FORMER_GRANT: Final = msgspec.json.Decoder(FormerGrant)


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node registered or changed (``row``), or went (None)."""

    name: NodeName
    row: Node | None


@dataclass(frozen=True, slots=True)
class PoolChange:
    """A pool was added or grew (``row``), or went (None)."""

    name: str
    row: Pool | None


Change = NodeChange | PoolChange


class IpamCache:
    """Nodes, pools, and which blocks are whose."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._nodes: dict[NodeName, Node] = {}
        self._pools: dict[str, AddressPool] = {}
        self._blocks: dict[str, Block] = {}
        self._taken: dict[str, set[str]] = {}
        self._former_grants: dict[NodeName, tuple[str, ...]] = {}

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

    def regainable(self, node: NodeName) -> tuple[str, ...]:
        """Return the blocks that a node had when it was last seen, and that are free, in the order
        of their grant.
        """
        held = self._former_grants.get(node, ())
        return tuple(cidr for cidr in held if (pool := self.pool_of(cidr)) and cidr not in self._taken.get(pool, ()))

    def remembered(self, node: NodeName) -> set[str]:
        """Return the blocks that absent nodes other than ``node`` had."""
        absent = (cidrs for other, cidrs in self._former_grants.items() if other not in self._nodes and other != node)
        return {cidr for cidrs in absent for cidr in cidrs}

    def put(self, key: str, value: bytes) -> Change | None:
        """Fold a written key in; return the change of a table that it means."""
        keys = self._keys
        if key.startswith(keys.nodes):
            node = _NODE.decode(value)
            self._nodes[node.name] = node
            return NodeChange(node.name, node)
        if key.startswith(keys.pools):
            name, row = key.removeprefix(keys.pools), _POOL.decode(value)
            self._pools[name] = AddressPool.from_row(name, row)
            return PoolChange(name, row)
        if key.startswith(keys.blocks):
            block = _BLOCK.decode(value)
            self._blocks[key] = block
            self._taken.setdefault(block.pool, set()).add(block.cidr)
        elif key.startswith(keys.former_grants):
            self._former_grants[NodeName(key.removeprefix(keys.former_grants))] = _FORMER_GRANT.decode(value).cidrs
        return None

    def delete(self, key: str) -> Change | None:
        """Fold a deleted key in; return the change of a table that it means."""
        keys = self._keys
        if key.startswith(keys.nodes):
            name = NodeName(key.removeprefix(keys.nodes))
            self._nodes.pop(name, None)
            return NodeChange(name, None)
        if key.startswith(keys.pools):
            pool = key.removeprefix(keys.pools)
            self._pools.pop(pool, None)
            return PoolChange(pool, None)
        if key.startswith(keys.blocks):
            block = self._blocks.pop(key, None)
            if block is not None:
                self._taken[block.pool].discard(block.cidr)
        elif key.startswith(keys.former_grants):
            self._former_grants.pop(NodeName(key.removeprefix(keys.former_grants)), None)
        return None
