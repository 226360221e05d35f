"""Kinds of maps; written by hand, since objects' BTF doesn't have the kernel's own enums."""

from enum import IntEnum


class MapKind(IntEnum):
    """``enum bpf_map_type``, as far as a data plane has a use for it."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    CPUMAP = 16
    SOCKHASH = 18
    PERCPU_CGROUP_STORAGE = 21
    SK_STORAGE = 24
    RINGBUF = 27


PER_CPU = frozenset(
    {MapKind.PERCPU_HASH, MapKind.PERCPU_ARRAY, MapKind.LRU_PERCPU_HASH, MapKind.PERCPU_CGROUP_STORAGE}
)
"""Kinds with a value for each key and CPU."""

LRU = frozenset({MapKind.LRU_HASH, MapKind.LRU_PERCPU_HASH})
"""Kinds that evict entries when they are full."""

TRANSIENT = frozenset({MapKind.PROG_ARRAY, MapKind.RINGBUF})
"""Kinds whose contents don't outlive their readers."""
