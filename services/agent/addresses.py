"""Pod addresses of this node: handed out from the blocks that ipam granted.

Pure and synchronous; the agent's endpoint loop owns the one instance. An address that comes back is queued behind all
others, so that a client which still talks to the old pod rarely meets a new one.
"""

from collections import deque
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from services.agent.errors import PoolExhausted, UnknownBlock

LOW_WATER: Final = 8
"""Ask for another block below this many free addresses."""


class AddressPool:
    """Free and used addresses of the node's blocks.

    The first usable address of the first block is the gateway of every pod; a block's network and broadcast addresses
    are never given out.
    """

    def __init__(self, blocks: Iterable[str] = ()) -> None:
        self._blocks: list[IPv4Network] = []
        self._free: deque[int] = deque()
        self._used: set[int] = set()
        for block in blocks:
            self.add_block(block)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks, in the order in which they were granted."""
        return tuple(str(block) for block in self._blocks)

    @property
    def gateway(self) -> str:
        """The pods' default gateway.

        Raises:
            PoolExhausted: The node has no block yet.
        """
        if not self._blocks:
            raise PoolExhausted((), 0)
        return str(self._blocks[0].network_address + 1)

    @property
    def used(self) -> int:
        """How many addresses endpoints hold."""
        return len(self._used)

    @property
    def free(self) -> int:
        """How many addresses are left."""
        return len(self._free)

    @property
    def wants_growth(self) -> bool:
        """Whether it is time to ask ipam for another block."""
        return len(self._free) < LOW_WATER

    def add_block(self, cidr: str) -> None:
        """Add a granted block; one that is known already changes nothing."""
        block = IPv4Network(cidr)
        if block in self._blocks:
            return
        first_block = not self._blocks
        self._blocks.append(block)
        first, last = int(block.network_address) + 1, int(block.broadcast_address) - 1
        self._free.extend(address for address in range(first + first_block, last + 1) if address not in self._used)

    def allocate(self) -> str:
        """Take the address that has been free for longest.

        Raises:
            PoolExhausted: None is left.
        """
        if not self._free:
            raise PoolExhausted(self.blocks, self.used)
        address = self._free.popleft()
        self._used.add(address)
        return str(IPv4Address(address))

    def claim(self, address: str) -> None:
        """Mark an address as used that a restored endpoint holds.

        Raises:
            UnknownBlock: It isn't ours; it stays marked, should its block still be granted.
        """
        number = int(IPv4Address(address))
        self._used.add(number)
        if not any(IPv4Address(number) in block for block in self._blocks):
            raise UnknownBlock(address, self.blocks)
        if number in self._free:
            self._free.remove(number)

    def release(self, address: str) -> None:
        """Give an address back; one that isn't in use, or no longer ours, changes nothing."""
        number = int(IPv4Address(address))
        if number not in self._used:
            return
        self._used.remove(number)
        if any(IPv4Address(number) in block for block in self._blocks):
            self._free.append(number)
