"""Network namespaces: entered by one thread, for the time in which it opens a socket."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from typing import Final

from services.agent.errors import NoNetworkNamespace

CLONE_NEWNET: Final = 0x4000_0000
NS_GET_NSTYPE: Final = 0xB703  # linux/nsfs.h
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def open_netns(path: str) -> Iterator[int]:
    """Yield a descriptor of a pod's network namespace.

    Raises:
        NoNetworkNamespace: Nothing is there.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NoNetworkNamespace(path, error.strerror or str(error)) from error
    try:
        _check(fd, path)
        yield fd
    finally:
        os.close(fd)


def _check(fd: int, path: str) -> None:
    try:
        kind = ioctl(fd, NS_GET_NSTYPE)
    except OSError as error:
        raise NoNetworkNamespace(path, "it is no namespace") from error
    if kind != CLONE_NEWNET:
        raise NoNetworkNamespace(path, "it is a namespace of another kind")


@contextmanager
def inside(fd: int, path: str) -> Iterator[None]:
    """Put the calling thread into a network namespace for the block, which must not await.

    Sockets opened inside stay there.

    Raises:
        NoNetworkNamespace: ``fd`` is none.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            raise NoNetworkNamespace(path, os.strerror(ctypes.get_errno()))
        try:
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "can't return to the node's network namespace")
    finally:
        os.close(home)
