"""Network namespaces of a local cluster, with sockets for servers and clients opened inside them.

A socket belongs to the namespace in which it was opened, so a test runs all its servers and clients
in one process, on one event loop, and still every packet crosses the links between them.
"""

import socket
from dataclasses import dataclass, field

from cilia.netns import inside
from laboratory.layout import netns_path


@dataclass(slots=True, kw_only=True)
class Machine:
    """Machine with a network namespace: a pod, a node's host, or the host beyond the nodes."""

    name: str
    ipv4: str
    network: str
    """Name of its network namespace."""
    ipv6: str = ""
    """IPv6 address; this or ``ipv4`` is empty where it has none of that family."""
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Address of each family."""
        return tuple(filter(None, (self.ipv4, self.ipv6)))

    def open_socket(self, kind: socket.SocketKind, protocol: int = 0, *, to: str = "") -> socket.socket:
        """Open a non-blocking socket inside, of the family of the address ``to``; it is the
        caller's to close.
        """
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with inside(netns_path(self.network)):
            opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened

    def listen(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Open a socket bound to a port on all addresses of both families, listening if it is TCP.

        It is closed with the machine.
        """
        opened = self.open_socket(kind, to="::")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            opened.listen(128)
        self.sockets.append(opened)
        return opened

    def close(self) -> None:
        """Close the sockets of its servers."""
        while self.sockets:
            self.sockets.pop().close()
