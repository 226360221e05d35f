"""Sizes of the maps: as configured, or for those that take their memory at once, a share of the
node's.

The peer divides 0.25 % of the memory in the same way and gives each table at least 131,072 entries
(its Documentation/network/ebpf/maps.rst). The other maps take memory only for the entries that they
hold.
"""

import os
from collections.abc import Iterable
from typing import Any, Final

from cilia.abi import maps
from cilia.abi.codec import MapLayout
from services.agent.config import MapSizes

FLOWS: Final = (maps.CT4, maps.CT6)
ENTRY_OVERHEAD_BYTES: Final = 72
"""``struct htab_elem`` with its place in the LRU list, and a bucket (kernel/bpf/hashtab.c)."""
STEP: Final = 1024
"""Sizes are multiples of it, so that a kernel that keeps some pages more for itself changes none.
"""


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def entry_bytes(layout: MapLayout[Any, Any]) -> int:
    """Return what one entry of a map takes in the kernel, about."""
    return ENTRY_OVERHEAD_BYTES + sum((size + 7) & ~7 for size in (layout.key.size, layout.value.size))


def entries_from_memory(total_bytes: int, sizes: MapSizes, layouts: Iterable[MapLayout[Any, Any]]) -> int:
    """Return the entries that each of ``layouts`` gets of their share of ``total_bytes``."""
    budget = int(total_bytes * sizes.memory_share)
    entries = budget // sum(map(entry_bytes, layouts)) // STEP * STEP
    return min(max(entries, sizes.least_entries), sizes.most_entries)


def max_entries(sizes: MapSizes, total_bytes: int) -> dict[str, int]:
    """Return the size of each map that doesn't keep the object's own."""
    shared = entries_from_memory(total_bytes, sizes, (*FLOWS, maps.NAT))
    wanted = {
        **{layout.name: sizes.conntrack or shared for layout in FLOWS},
        maps.NAT.name: sizes.nat or shared,
        maps.NAT_TURNS.name: max((sizes.nat or shared) // 2, 1),
        maps.NON_MASQUERADE.name: sizes.non_masquerade,
        maps.ENDPOINTS.name: sizes.endpoints,
        maps.IPCACHE.name: sizes.ipcache,
        maps.POLICY.name: sizes.policy,
    }
    return {name: size for name, size in wanted.items() if size}
