"""Pools of pod addresses and their blocks, as numbers: pure.

A pool is a network cut into blocks of one prefix length; a block is known by its index. Nothing
here enumerates a pool, so a /48 of IPv6 cut into /64 costs no more than a small IPv4 pool.
"""

import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import combinations
from typing import Final

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Pool
from cilia.errors import BadConfig
from services.ipam.errors import PoolExhausted

Network = IPv4Network | IPv6Network

SMALLEST_BLOCK_BITS: Final = 2
"""A block holds at least four addresses: its network's, the gateway's, and some pods'."""
POOL_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class AddressPool:
    """A named network, cut into blocks of ``block_prefix``."""

    name: str
    network: Network
    block_prefix: int

    @classmethod
    def from_row(cls, name: str, row: Pool) -> "AddressPool":
        """Read a pool's row.

        Raises:
            ValueError: The network or the length of its blocks is impossible; the message says
                which.
        """
        network = ip_network(row.cidr)
        longest = network.max_prefixlen - SMALLEST_BLOCK_BITS
        if not network.prefixlen <= row.block_prefix <= longest:
            raise ValueError(f"blocks of /{row.block_prefix} don't fit; give /{network.prefixlen} to /{longest}")
        return cls(name, network, row.block_prefix)

    @property
    def row(self) -> Pool:
        """The pool as the row of its table."""
        return Pool(str(self.network), self.block_prefix)

    @cached_property
    def blocks(self) -> int:
        """Number of blocks."""
        return 1 << (self.block_prefix - self.network.prefixlen)

    def block(self, index: int) -> str:
        """Return the CIDR of block ``index`` (0 to ``blocks`` - 1)."""
        bits = self.network.max_prefixlen - self.block_prefix
        address = int(self.network.network_address) + (index << bits)
        return str(type(self.network)((address, self.block_prefix)))

    def contains(self, cidr: str) -> bool:
        """Tell whether ``cidr`` is one of this pool's blocks."""
        block = ip_network(cidr)
        return (
            block.prefixlen == self.block_prefix
            and block.version == self.network.version
            and block.network_address in self.network
        )


def choose_block(
    pool: AddressPool,
    node: NodeName,
    *,
    taken: Collection[str],
    remembered: Collection[str] = (),
) -> str:
    """Choose a free block for a node, one that no absent node had if there is any.

    Each node starts to look at a place of its own (a hash of its name), so that nodes that register
    at once seldom want the same block.

    Args:
        taken: CIDRs of granted blocks.
        remembered: Blocks that absent nodes had and get back if they return in time.

    Raises:
        PoolExhausted: Every block is granted.
    """
    start = zlib.crc32(node.encode()) % pool.blocks
    for avoided in ((taken, remembered), (taken,)):
        limit = min(pool.blocks, sum(map(len, avoided)) + 1)  # one more than can be occupied
        for step in range(limit):
            cidr = pool.block((start + step) % pool.blocks)
            if not any(cidr in each for each in avoided):
                return cidr
    raise PoolExhausted(pool=pool.name, cidr=str(pool.network), block_prefix=pool.block_prefix, blocks=pool.blocks)


def parse_pools(texts: Sequence[str], *, field: str = "pools") -> Mapping[str, AddressPool]:
    """Read the configured pools, each ``name=network/length/block-length``:
    ``default=10.244.0.0/16/26``.

    Raises:
        BadConfig: A text is no pool, two have one name, or two overlap; names the setting and its
            value.
    """
    if not texts:
        raise BadConfig(field, "", source="configuration", reason="give at least one pool")
    pools: dict[str, AddressPool] = {}
    for text in texts:
        pool = _parse_pool(text, field)
        if pool.name in pools:
            raise BadConfig(field, text, source="configuration", reason=f"pool {pool.name!r} is given twice")
        pools[pool.name] = pool
    refuse_overlaps(pools.values(), field=field)
    return pools


def _parse_pool(text: str, field: str) -> AddressPool:
    name, equals, rest = text.partition("=")
    cidr, slash, length = rest.rpartition("/")
    try:
        if not (equals and slash and "/" in cidr):
            raise ValueError("a pool is written name=network/length/block-length, such as default=10.244.0.0/16/26")
        if not POOL_NAME.fullmatch(name):
            raise ValueError(f"the name {name!r} must be lower case letters, digits and dashes")
        if not length.isdecimal():
            raise ValueError(f"the blocks' length {length!r} is no number")
        return AddressPool.from_row(name, Pool(cidr, int(length)))
    except ValueError as error:
        raise BadConfig(field, text, source="configuration", reason=str(error)) from error


def refuse_overlaps(pools: Iterable[AddressPool], *, field: str = "pools") -> None:
    """Make sure that no address belongs to two pools.

    Raises:
        BadConfig: Two pools overlap; names both.
    """
    for one, other in combinations(pools, 2):
        if one.network.version == other.network.version and one.network.overlaps(other.network):
            value = f"{one.name}={one.network} and {other.name}={other.network}"
            raise BadConfig(field, value, source="configuration", reason="the pools overlap")
