"""Ring buffers of fixed-size records, drained within a budget.

The map's own descriptor is pollable: ``loop.add_reader(ring, ...)``. A drain of at most N records
keeps the loop's other work alive at any rate of events; while something is left, the descriptor
stays readable.
"""

from pathlib import Path
from typing import Any, NamedTuple, Self

from cilia.abi.codec import RingLayout
from cilia.abi.kinds import MapKind
from cilia.datapath.descriptor import Descriptor, ffi, get_pinned, lib
from cilia.datapath.errors import KernelError, MapMismatch
from cilia.datapath.map_info import map_info

HEADER_BYTES = 8


class Drained(NamedTuple):
    """The outcome of one drain."""

    records: memoryview
    """Records in a row, valid until the next drain; for struct.iter_unpack."""
    taken: int
    """Number of records."""
    discarded: int
    """Number of records that their program reserved and then gave up."""
    misfits: int
    """Number of records of another size, which are left out."""
    backlog: int
    """Number of pending records, about. Those that found no room are counted by the programs."""


class RingBuffer(Descriptor):
    """The one consumer of a ring buffer; a second one would steal its records."""

    def __init__(self, fd: int, *, record_size: int, limit: int, name: str = "ring buffer") -> None:
        """Take over ``fd``.

        Args:
            record_size: Bytes of every record.
            limit: Records that one drain takes at most; as much memory is set aside.

        Raises:
            MapMismatch: It isn't a ring buffer.
            KernelError: It can't be mapped.
        """
        super().__init__(fd)
        self.record_size = record_size
        self.limit = limit
        self._ring: Any = ffi.NULL
        info = map_info(fd)
        if info.kind != MapKind.RINGBUF:
            self.close()
            raise MapMismatch(name, {"kind": (info.kind, MapKind.RINGBUF)})
        self.size_bytes = info.max_entries
        self._buffer = bytearray(record_size * limit)
        self._view = memoryview(self._buffer)
        self._target = ffi.from_buffer(self._buffer)
        self._outcome = ffi.new("struct cilia_drained *")
        self._ring = lib.cilia_ring_open(fd, info.max_entries)
        if self._ring == ffi.NULL:
            failure = KernelError(f"map {name}", ffi.errno)
            self.close()
            raise failure

    @classmethod
    def open_pinned(cls, directory: Path, layout: RingLayout, *, record_size: int, limit: int) -> Self:
        """Open the ring buffer pinned under its name; raises NotPinned, MapMismatch."""
        return cls(get_pinned(directory / layout.name), record_size=record_size, limit=limit, name=layout.name)

    def drain(self) -> Drained:
        """Take the records that are there, oldest first, at most ``limit``."""
        outcome = self._outcome
        lib.cilia_ring_drain(self._ring, self._target, self.record_size, self.limit, outcome)
        footprint = (self.record_size + HEADER_BYTES + 7) & ~7
        return Drained(
            records=self._view[: outcome.records * self.record_size],
            taken=outcome.records,
            discarded=outcome.discarded,
            misfits=outcome.misfits,
            backlog=-(-outcome.backlog // footprint),
        )

    def close(self) -> None:
        if self._ring != ffi.NULL:
            lib.cilia_ring_close(self._ring)
            self._ring = ffi.NULL
        super().close()
