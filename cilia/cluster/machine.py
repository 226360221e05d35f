"""Network namespaces of a local cluster, with sockets for servers and clients opened inside them.

A socket belongs to the namespace in which it was opened, so a test runs all its servers and clients in one process, on
one event loop, and still every packet crosses the links between them.
"""

import socket
from dataclasses import dataclass, field

from cilia.cluster.layout import netns_path
from cilia.netns import inside


@dataclass(slots=True, kw_only=True)
class Machine:
    """Something that talks: a pod, a node's host, or what is beyond the nodes."""

    name: str
    ipv4: str
    network: str
    """Its network namespace."""
    sockets: list[socket.socket] = field(default_factory=list)

    def open_socket(self, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """Open a non-blocking IPv4 socket inside; it is the caller's to close."""
        with inside(netns_path(self.network)):
            opened = socket.socket(socket.AF_INET, kind, protocol)
        opened.setblocking(False)
        return opened

    def listen(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Open a socket bound to a port on all addresses, listening if it is TCP; closed with the machine."""
        opened = self.open_socket(kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            opened.listen(128)
        self.sockets.append(opened)
        return opened

    def close(self) -> None:
        """Close the sockets of its servers."""
        while self.sockets:
            self.sockets.pop().close()
