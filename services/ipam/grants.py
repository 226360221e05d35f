"""Blocks of nodes: each grant is one transaction in etcd, so no block is granted twice.

A node keeps what it has until it is removed (:mod:`services.ipam.removal`). Its incarnation, which
etcd remembers as the revision that made its key, tells one membership from the next: whoever asks
in the name of a former one is refused. A node's last grant stays under a key of its own, and is its
first choice when it returns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

import msgspec

from cilia.backoff import Backoff
from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.ipam import Granted, RegisterNode
from cilia.contracts.keys import Block, FormerGrant, Keys
from cilia.contracts.tables import Node
from cilia.kvstore import Etcd, Txn, absent, delete, get, put, unchanged
from services.ipam.cache import IpamCache
from services.ipam.errors import BlockNotHeld, NodeConflict, NoSuchPool, NotRegistered, TooContended, WrongFamily
from services.ipam.pools import AddressPool, choose_block

ATTEMPTS: Final = 20
FIRST_PAUSE_SECONDS: Final = 0.002
LONGEST_PAUSE_SECONDS: Final = 0.1

_NODE: Final = msgspec.json.Decoder(Node)


class Registration(NamedTuple):
    """A node's row as etcd holds it, and the revision of its last change."""

    row: Node
    incarnation: Incarnation
    revision: Revision


@dataclass(frozen=True, slots=True)
class Grants:
    """Carries out registrations and grants."""

    etcd: Etcd
    keys: Keys
    cache: IpamCache
    random: Random

    async def register(self, request: RegisterNode) -> Registration:
        """Enter a node, or find it again with the incarnation and the blocks that it has.

        Raises:
            NodeConflict: The name belongs to another machine; one that shows its incarnation is the
                same.
            NoSuchPool, WrongFamily, PoolExhausted: There is no block to begin with.
            TooContended, Unavailable: Try again.
        """
        lost: set[str] = set()
        backoff = self._backoff()
        for _ in range(ATTEMPTS):
            found = await self.find(request.name)
            if found is None:
                entered = await self._enter(request, lost)
            elif found.row.ipv4 != request.ipv4 and found.incarnation != request.incarnation:
                raise NodeConflict(request.name, held_by=found.row.ipv4, claimed_by=request.ipv4)
            else:
                entered = await self._return(found, request, lost)
            if entered is not None:
                return entered
            await backoff.pause()
        raise TooContended(f"registration of node {request.name}", ATTEMPTS)

    async def find(self, name: NodeName) -> Registration | None:
        """Read a node's row from etcd."""
        found = await self.etcd.get(self.keys.node(name))
        if found is None:
            return None
        return Registration(_NODE.decode(found.value), Incarnation(found.create_revision), Revision(found.mod_revision))

    async def grow(self, node: NodeName, incarnation: Incarnation, pool: str) -> Granted:
        """Grant a node one more block.

        Raises:
            NotRegistered: ``incarnation`` is not the node's.
            NoSuchPool, PoolExhausted, TooContended, Unavailable: See :meth:`register`.
        """
        lost: set[str] = set()
        backoff = self._backoff()
        for _ in range(ATTEMPTS):
            found = await self.find(node)
            if found is None or found.incarnation != incarnation:
                raise NotRegistered(node, incarnation)
            cidr = self._choose(pool, node, lost)
            row = msgspec.structs.replace(found.row, pod_cidrs=(*found.row.pod_cidrs, cidr))
            revision = await self._write(row, modified=found.revision, granted=(cidr,), lost=lost)
            if revision is not None:
                return Granted(cidr, revision)
            await backoff.pause()
        raise TooContended(f"another block for node {node}", ATTEMPTS)

    async def tell_addresses(self, node: NodeName, incarnation: Incarnation, addresses: tuple[str, ...]) -> Revision:
        """Enter the addresses of a node's devices; nothing is written if its row has them.

        Raises:
            NotRegistered: ``incarnation`` is not the node's.
            TooContended, Unavailable: Try again.
        """
        backoff = self._backoff()
        for _ in range(ATTEMPTS):
            found = await self.find(node)
            if found is None or found.incarnation != incarnation:
                raise NotRegistered(node, incarnation)
            row = msgspec.structs.replace(found.row, addresses=addresses)
            revision = found.revision if row == found.row else await self._write(row, modified=found.revision)
            if revision is not None:
                return revision
            await backoff.pause()
        raise TooContended(f"addresses of node {node}", ATTEMPTS)

    async def shrink(self, node: NodeName, cidr: str) -> Revision:
        """Take a block back from a node.

        Raises:
            BlockNotHeld: The node doesn't have it.
            TooContended, Unavailable: Try again.
        """
        backoff = self._backoff()
        for _ in range(ATTEMPTS):
            found = await self.find(node)
            if found is None or cidr not in found.row.pod_cidrs:
                raise BlockNotHeld(node, cidr)
            row = msgspec.structs.replace(found.row, pod_cidrs=tuple(c for c in found.row.pod_cidrs if c != cidr))
            revision = await self._write(row, modified=found.revision, returned=(cidr,))
            if revision is not None:
                return revision
            await backoff.pause()
        raise TooContended(f"return of block {cidr} of node {node}", ATTEMPTS)

    async def _enter(self, request: RegisterNode, lost: set[str]) -> Registration | None:
        """Register a node that has no row; None if another registration or grant came first."""
        regained = self._regainable(request, (), lost)
        cidrs = (*regained, *self._choose_missing(request, regained, lost))
        row = Node(request.name, request.ipv4, request.ipv6, request.labels, cidrs)
        revision = await self._write(row, modified=None, granted=cidrs, lost=lost)
        return None if revision is None else Registration(row, Incarnation(revision), revision)

    async def _return(self, found: Registration, request: RegisterNode, lost: set[str]) -> Registration | None:
        """Keep incarnation and blocks of a node that registers again; None if its row changed or
        went meanwhile.
        """
        former = found.row.pod_cidrs
        regained = self._regainable(request, former, lost)
        granted = (*regained, *self._choose_missing(request, (*former, *regained), lost))
        cidrs = (*former, *granted)
        row = msgspec.structs.replace(
            found.row, ipv4=request.ipv4, ipv6=request.ipv6, labels=request.labels, pod_cidrs=cidrs
        )
        if row == found.row:
            return found
        revision = await self._write(row, modified=found.revision, granted=granted, lost=lost)
        return None if revision is None else Registration(row, found.incarnation, revision)

    async def _write(
        self,
        row: Node,
        *,
        modified: Revision | None,
        granted: Sequence[str] = (),
        returned: Sequence[str] = (),
        lost: set[str] | None = None,
    ) -> Revision | None:
        """Write a node's row with the blocks that come and go.

        Args:
            modified: Revision that the row must still have; None: it must not exist.
            lost: Receives those of ``granted`` that turned out to be another's.

        Returns:
            The revision, or None if the row or a block changed meanwhile.
        """
        node = self.keys.node(row.name)
        blocks = {cidr: self._block_key(cidr) for cidr in granted}
        compare = [absent(node) if modified is None else unchanged(node, modified)]
        compare += [absent(key) for key in blocks.values()]
        ops = [
            put(node, msgspec.json.encode(row)),
            put(self.keys.former_grant(row.name), msgspec.json.encode(FormerGrant(row.pod_cidrs))),
            *(put(key, self._block_value(cidr, row.name)) for cidr, key in blocks.items()),
            *(delete(self._block_key(cidr)) for cidr in returned),
        ]
        outcome = await self.etcd.txn(Txn(compare, ops, [get(key) for key in blocks.values()]))
        if outcome.succeeded:
            return Revision(outcome.revision)
        if lost is not None:
            lost.update(cidr for cidr, key in blocks.items() if outcome.value(key) is not None)
        return None

    def _regainable(self, request: RegisterNode, held: Sequence[str], lost: set[str]) -> tuple[str, ...]:
        """Return the free blocks beside ``held`` that a node had, as we know or as it says."""
        known = self.cache.regainable(request.name, request.blocks)
        return tuple(cidr for cidr in known if cidr not in lost and cidr not in held)

    def _choose_missing(self, request: RegisterNode, cidrs: Sequence[str], lost: set[str]) -> tuple[str, ...]:
        """Choose a block of each pool that a node asks for and that none of its ``cidrs`` is of."""
        wanted = {"pool": (request.pool, 4), "pool6": (request.pool6, 6)}
        for field, (name, version) in wanted.items():
            if name and self._pool(name, field).network.version != version:
                raise WrongFamily(field, name, version)
        present = {self.cache.pool_of(cidr) for cidr in cidrs}
        missing = [name for name, _ in wanted.values() if name and name not in present]
        return tuple(self._choose(name, request.name, lost) for name in missing)

    def _choose(self, name: str, node: NodeName, lost: set[str]) -> str:
        pool = self._pool(name)
        taken = self.cache.taken(name) | lost
        return choose_block(pool, node, taken=taken, remembered=self.cache.remembered(node))

    def _pool(self, name: str, field: str = "pool") -> AddressPool:
        pool = self.cache.pools.get(name)
        if pool is None:
            raise NoSuchPool(name, tuple(self.cache.pools), field=field)
        return pool

    def _block_key(self, cidr: str) -> str:
        return self.keys.block(self._pool_of(cidr), cidr)

    def _block_value(self, cidr: str, node: NodeName) -> bytes:
        return msgspec.json.encode(Block(cidr, node, self._pool_of(cidr)))

    def _pool_of(self, cidr: str) -> str:
        pool = self.cache.pool_of(cidr)
        if pool is None:
            raise NoSuchPool(cidr, tuple(self.cache.pools))
        return pool

    def _backoff(self) -> Backoff:
        return Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self.random.uniform)
