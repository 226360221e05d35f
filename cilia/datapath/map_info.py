"""Properties of a map in the kernel, whatever its layout."""

import os
from pathlib import Path
from typing import NamedTuple

from cilia.abi.kinds import PER_CPU
from cilia.datapath.descriptor import checked, ffi, get_pinned, lib


class MapInfo(NamedTuple):
    """Properties of a map; sizes in bytes."""

    id: int
    kind: int
    """Value of :class:`~cilia.abi.kinds.MapKind`, or of a kind that it doesn't list."""
    key_size: int
    value_size: int
    max_entries: int
    flags: int

    @property
    def is_per_cpu(self) -> bool:
        """Tell whether each CPU has a value of its own under a key."""
        return self.kind in PER_CPU

    @property
    def element_bytes(self) -> int:
        """Bytes that are read or written under one key: the values of all CPUs if each has one."""
        return padded(self.value_size) * possible_cpus() if self.is_per_cpu else self.value_size


def map_info(fd: int) -> MapInfo:
    """Ask the kernel for the map behind ``fd``; raises KernelError."""
    info = ffi.new("struct cilia_map_info *")
    checked(lib.cilia_map_info(fd, info), "ask for a map")
    return MapInfo(info.id, info.type, info.key_size, info.value_size, info.max_entries, info.flags)


def open_map_info(path: Path) -> MapInfo:
    """Ask for the map pinned at ``path``; raises NotPinned."""
    fd = get_pinned(path)
    try:
        return map_info(fd)
    finally:
        os.close(fd)


def memory_bytes(fd: int) -> int:
    """Give the memory that the map behind ``fd`` takes, as the kernel accounts for it."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "memlock":
            return int(value)
    return 0


def padded(size: int) -> int:
    """Round up to 8 bytes, where elements of arrays and values of CPUs begin (arraymap.c)."""
    return (size + 7) & ~7


def possible_cpus() -> int:
    """Return how many CPUs this machine may ever have; a map per CPU has a value for each."""
    return checked(lib.libbpf_num_possible_cpus(), "count the CPUs")
