"""File descriptors of kernel objects: owned by one Python object, pinned by path."""

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cilia.datapath._libbpf import ffi as _ffi
from cilia.datapath._libbpf import lib as _lib
from cilia.datapath.errors import KernelError, NotPinned

ffi: Any = _ffi
lib: Any = _lib


def checked(result: int, operation: str) -> int:
    """Return ``result``, or raise KernelError for a negative errno."""
    if result < 0:
        raise KernelError(operation, -result)
    return result


def get_pinned(path: Path) -> int:
    """Open what is pinned at ``path``; the caller owns the descriptor.

    Raises:
        NotPinned: Nothing is there.
        KernelError: It can't be opened.
    """
    fd: int = lib.bpf_obj_get(bytes(path))
    if fd == -errno.ENOENT:
        raise NotPinned(path)
    return checked(fd, f"open {path}")


class Descriptor:
    """A kernel object that lives at least as long as this descriptor, its pin, or another holder of
    it.
    """

    def __init__(self, fd: int) -> None:
        """Take over ``fd``."""
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def pin(self, path: Path) -> None:
        """Keep the object at ``path`` on a BPF file system, beyond the life of this process.

        Raises:
            KernelError: EEXIST if something is pinned there already.
        """
        checked(lib.bpf_obj_pin(self._fd, bytes(path)), f"pin {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
