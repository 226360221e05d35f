"""Pod addresses of this node: handed out from the blocks that ipam granted, one of each family that
the node has.

Pure and synchronous; the agent's endpoint loop owns the one instance. An address that comes back is
queued behind all others, so that a client which still talks to the old pod rarely meets a new one.
Nothing enumerates a block: one of IPv6 has more addresses than memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from services.agent.errors import PoolExhausted, UnknownBlock

LOW_WATER: Final = 8
"""Ask for another block below this many free addresses."""

Network = IPv4Network | IPv6Network


class Addresses(NamedTuple):
    """Addresses of one pod, as text; empty where it has none of that family."""

    ipv4: str = ""
    ipv6: str = ""


class BlockPool:
    """Free and used addresses of the node's blocks of one family.

    The first usable address of the first block is the gateway of every pod; a block's first and
    last addresses (IPv4: network and broadcast, IPv6: anycast) are never given out.
    """

    def __init__(self) -> None:
        self.blocks: list[Network] = []
        self.free = 0
        """Number of addresses that are left."""
        self._fresh: deque[tuple[Network, range]] = deque()
        """Rest of each block that was never reached; claimed addresses are among it."""
        self._returned: dict[str, None] = {}
        self.used: set[str] = set()
        """Addresses that endpoints hold."""

    @property
    def gateway(self) -> str:
        """The pods' default gateway; empty without a block."""
        return str(self.blocks[0][1]) if self.blocks else ""

    def add_block(self, block: Network) -> None:
        """Add a granted block; one that is known already changes nothing."""
        if block in self.blocks:
            return
        indexes = range(1 if self.blocks else 2, block.num_addresses - 1)
        self.blocks.append(block)
        self._fresh.append((block, indexes))
        self.free += (
            indexes.stop
            - indexes.start
            - sum(_contains(block, address) and address != self.gateway for address in self.used)
        )

    def hold(self, blocks: Iterable[Network]) -> None:
        """Have exactly these blocks; addresses of others stay marked, and are lost."""
        wanted = list(blocks)
        if any(block not in wanted for block in self.blocks):
            self.blocks.clear()
            self._fresh.clear()
            self._returned.clear()
            self.free = 0
        for block in wanted:
            self.add_block(block)

    def is_lost(self, address: str) -> bool:
        """Tell whether a pod can't keep an address: it lies in no block, or became the gateway."""
        return not self._is_ours(address)

    def allocate(self) -> str | None:
        """Take the address that has been free for longest; None if none is left."""
        address = next(self._unused(), None)
        if address is not None:
            self.used.add(address)
            self.free -= 1
        return address

    def claim(self, address: str) -> bool:
        """Mark an address as used, also of a block that may still come; tell whether it is ours."""
        is_ours = self._is_ours(address)
        if address not in self.used:
            self.used.add(address)
            self._returned.pop(address, None)
            self.free -= is_ours
        return is_ours

    def release(self, address: str) -> None:
        """Give an address back; one that isn't in use, or no longer ours, changes nothing."""
        if address in self.used:
            self.used.remove(address)
            if self._is_ours(address):
                self._returned[address] = None
                self.free += 1

    def _unused(self) -> Iterator[str]:
        """Give what may be allocated next, and take it out of the queue."""
        while self._fresh:
            block, indexes = self._fresh.popleft()
            if not indexes:
                continue
            self._fresh.appendleft((block, indexes[1:]))
            address = str(block[indexes[0]])
            if address not in self.used and address not in self._returned:
                yield address
        for address in list(self._returned):
            del self._returned[address]
            yield address

    def _is_ours(self, address: str) -> bool:
        return address != self.gateway and any(_contains(block, address) for block in self.blocks)


class AddressPool:
    """Addresses of the families that pods get here."""

    def __init__(self, versions: Iterable[int]) -> None:
        self._pools = {4: BlockPool(), 6: BlockPool()}
        self._versions = tuple(versions)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks, IPv4's first, in the order in which they were granted."""
        return tuple(str(block) for pool in self._pools.values() for block in pool.blocks)

    @property
    def gateways(self) -> Addresses:
        """The pods' default gateways."""
        return Addresses(self._pools[4].gateway, self._pools[6].gateway)

    @property
    def used(self) -> int:
        """Number of addresses that endpoints hold."""
        return sum(len(pool.used) for pool in self._pools.values())

    def free(self, version: int) -> int:
        """Return how many addresses of IPv4 or IPv6 are left."""
        return self._pools[version].free

    @property
    def lacking(self) -> tuple[int, ...]:
        """Families that have no address left for the next pod."""
        return tuple(version for version in self._versions if not self.free(version))

    @property
    def low(self) -> tuple[int, ...]:
        """Families that need another block soon."""
        return tuple(version for version in self._versions if self.free(version) < LOW_WATER)

    def add_block(self, cidr: str) -> None:
        """Add a granted block; one that is known already changes nothing."""
        block = ip_network(cidr)
        self._pools[block.version].add_block(block)

    def hold(self, cidrs: Iterable[str]) -> None:
        """Have exactly the blocks that were granted."""
        blocks = [ip_network(cidr) for cidr in cidrs]
        for version, pool in self._pools.items():
            pool.hold(block for block in blocks if block.version == version)

    def is_lost(self, addresses: Addresses) -> bool:
        """Tell whether a pod can't keep its addresses, since a block of theirs is another's now."""
        return any(self._pool_of(address).is_lost(address) for address in addresses if address)

    def allocate(self) -> Addresses:
        """Take one address of each family that pods get.

        Raises:
            PoolExhausted: One of them has none left; nothing is taken.
        """
        if self.lacking:
            raise PoolExhausted(self.blocks, self.used)
        taken = {version: self._pools[version].allocate() for version in self._versions}
        return Addresses(taken.get(4) or "", taken.get(6) or "")

    def claim(self, addresses: Addresses) -> None:
        """Mark what a restored endpoint holds as used.

        Raises:
            UnknownBlock: An address isn't ours; it stays marked, should its block still be granted.
        """
        known = {address: self._pool_of(address).claim(address) for address in filter(None, addresses)}
        for address, is_ours in known.items():
            if not is_ours:
                raise UnknownBlock(address, self.blocks)

    def release(self, addresses: Addresses) -> None:
        """Give addresses back; those that aren't in use, or no longer ours, change nothing."""
        for address in filter(None, addresses):
            self._pool_of(address).release(address)

    def _pool_of(self, address: str) -> BlockPool:
        return self._pools[ip_address(address).version]


def _contains(block: Network, address: str) -> bool:
    return ip_address(address) in block
