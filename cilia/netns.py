"""Network namespaces: entered by one thread, for good or while it opens a socket.

A namespace belongs to the thread, a socket to the namespace in which it was opened. So a block inside must not await.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cilia.errors import Failure

DIRECTORY: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


class NoNetworkNamespace(Failure):
    """Nothing, or something else, is at ``path``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"network namespace {path}: {reason}")
        self.path = path
        self.reason = reason


def enter(path: str | Path) -> None:
    """Put the calling thread, and the threads that it starts, into a network namespace.

    Raises:
        NoNetworkNamespace: There is none at ``path``, or root is missing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NoNetworkNamespace(str(path), error.strerror or str(error)) from error
    try:
        _set(fd, str(path))
    finally:
        os.close(fd)


@contextmanager
def inside(path: str | Path) -> Iterator[None]:
    """Put the calling thread into a network namespace for the block, which must not await.

    Raises:
        NoNetworkNamespace: There is none at ``path``, or root is missing.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path)
        try:
            yield
        finally:
            _set(home, "home")
    finally:
        os.close(home)


def _set(fd: int, path: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise NoNetworkNamespace(path, os.strerror(ctypes.get_errno()))
