"""Network namespaces: entered by one thread, for good or while it opens a socket.

A namespace belongs to the thread, a socket to the namespace in which it was opened. So a block
inside must not await.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Final

from cilia.errors import Failure

DIRECTORY: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x4000_0000
_NS_GET_NSTYPE: Final = 0xB703  # linux/nsfs.h
_libc = ctypes.CDLL(None, use_errno=True)


class NoNetworkNamespace(Failure):
    """Nothing, or something else, is at ``path``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"network namespace {path}: {reason}")
        self.path = path
        self.reason = reason


@contextmanager
def open_netns(path: str | Path) -> Iterator[int]:
    """Yield a descriptor of a network namespace.

    Raises:
        NoNetworkNamespace: There is none at ``path``.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NoNetworkNamespace(str(path), error.strerror or str(error)) from error
    try:
        _check(fd, str(path))
        yield fd
    finally:
        os.close(fd)


def netns_inode(path: str | Path) -> int:
    """Return the number of a network namespace, which another one under its path wouldn't have.

    Raises:
        NoNetworkNamespace: There is none at ``path``.
    """
    with open_netns(path) as fd:
        return os.fstat(fd).st_ino


def enter(path: str | Path) -> None:
    """Put the calling thread, and the threads that it starts, into a network namespace.

    Raises:
        NoNetworkNamespace: There is none at ``path``, or root is missing.
    """
    with open_netns(path) as fd:
        _set(fd, str(path))


@contextmanager
def inside(path: str | Path) -> Iterator[None]:
    """Put the calling thread into a network namespace for the block, which must not await.

    Raises:
        NoNetworkNamespace: There is none at ``path``, or root is missing.
    """
    with open_netns("/proc/thread-self/ns/net") as home:
        enter(path)
        try:
            yield
        finally:
            _set(home, "home")


def _check(fd: int, path: str) -> None:
    try:
        kind = ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        raise NoNetworkNamespace(path, "it is no namespace") from error
    if kind != _CLONE_NEWNET:
        raise NoNetworkNamespace(path, "it is a namespace of another kind")


def _set(fd: int, path: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise NoNetworkNamespace(path, os.strerror(ctypes.get_errno()))
