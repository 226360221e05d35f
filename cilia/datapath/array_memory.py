"""Memory of an array map, shared with the programs: words are read and written without a call into
the kernel.

For arrays created with BPF_F_MMAPABLE. A store is atomic and releases: a program that sees it also
sees every map entry written before.
"""

import mmap
from types import TracebackType
from typing import Any, Self

from cilia.datapath.descriptor import ffi, lib
from cilia.datapath.errors import KernelError
from cilia.datapath.map_info import padded
from cilia.datapath.maps import Map

PAGE = mmap.PAGESIZE


class ArrayMemory:
    """The memory of one array; the mapping lives until close, also beyond the map's descriptor."""

    def __init__(self, array: Map[int, Any]) -> None:
        """Map the array into this process.

        Raises:
            KernelError: It isn't mappable.
        """
        self._name = array.name
        self._count = array.info.max_entries
        self._value_size = array.info.value_size
        self._stride_bytes = padded(array.info.value_size)
        self._size = (self._stride_bytes * self._count + PAGE - 1) & ~(PAGE - 1)
        self._memory: Any = lib.cilia_map_memory(array.fileno(), self._size)
        if self._memory == ffi.NULL:
            raise KernelError(f"map the memory of {array.name}", ffi.errno)

    def load_u32(self, index: int, offset: int = 0) -> int:
        """Read the 32-bit word at ``offset`` bytes into element ``index``."""
        return int(lib.cilia_load_u32(self._at(index, offset, 4)))

    def load_u64(self, index: int, offset: int = 0) -> int:
        """Read the 64-bit word at ``offset`` bytes into element ``index``."""
        return int(lib.cilia_load_u64(self._at(index, offset, 8)))

    def store_u32(self, index: int, value: int, offset: int = 0) -> None:
        """Write the 32-bit word at ``offset`` bytes into element ``index``."""
        lib.cilia_store_u32(self._at(index, offset, 4), value)

    def store_u64(self, index: int, value: int, offset: int = 0) -> None:
        """Write the 64-bit word at ``offset`` bytes into element ``index``."""
        lib.cilia_store_u64(self._at(index, offset, 8), value)

    def add_u32(self, index: int, value: int = 1, offset: int = 0) -> int:
        """Add to the 32-bit word, which wraps, and give the sum."""
        return int(lib.cilia_add_u32(self._at(index, offset, 4), value))

    def add_each_u32(self, indexes: range, value: int = 1, offset: int = 0) -> None:
        """Add to the 32-bit word of each element of a range; only each add by itself is atomic."""
        if not indexes:
            return
        self._at(indexes[-1], offset, 4)  # raises IndexError before anything is changed
        lib.cilia_add_each_u32(self._at(indexes[0], offset, 4), self._stride_bytes, len(indexes), value)

    def close(self) -> None:
        """Give the mapping back; harmless when repeated."""
        if self._memory != ffi.NULL:
            lib.cilia_unmap_memory(self._memory, self._size)
            self._memory = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _at(self, index: int, offset: int, width: int) -> Any:
        if self._memory == ffi.NULL:
            raise ValueError(f"{self._name}: closed")
        if not 0 <= index < self._count:
            raise IndexError(f"{self._name}: no element {index} of {self._count}")
        if offset % width or not 0 <= offset <= self._value_size - width:
            raise IndexError(f"{self._name}: no word of {width} bytes at offset {offset} of {self._value_size}")
        return ffi.cast("char *", self._memory) + index * self._stride_bytes + offset
