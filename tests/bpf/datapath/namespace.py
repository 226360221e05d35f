"""Network namespaces without a name: the kernel removes one, and what is in it, with the last
descriptor and socket.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from pyroute2.iproute.linux import IPRoute

CLONE_NEWNET = 0x4000_0000
OWN = "/proc/thread-self/ns/net"
libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """A network namespace with its loopback device up."""

    def __init__(self) -> None:
        home = os.open(OWN, os.O_RDONLY)
        try:
            _checked(libc.unshare(CLONE_NEWNET))
            self._fd = os.open(OWN, os.O_RDONLY)
            self.netlink = IPRoute()
            self.netlink.link("set", index=1, state="up")
        finally:
            _checked(libc.setns(home, CLONE_NEWNET))
            os.close(home)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread in the namespace; sockets made there stay there."""
        home = os.open(OWN, os.O_RDONLY)
        _checked(libc.setns(self._fd, CLONE_NEWNET))
        try:
            yield
        finally:
            _checked(libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def fileno(self) -> int:
        return self._fd

    def ifindex(self, name: str) -> int:
        """Return the index of a device; raises IndexError."""
        return int(self.netlink.link_lookup(ifname=name)[0])

    def close(self) -> None:
        self.netlink.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
