"""Pods of a local cluster: network namespaces, with sockets for servers and clients opened inside them.

A socket belongs to the namespace in which it was opened, so a test runs all its servers and clients in one process, on
one event loop, and still every packet crosses the pods' links.
"""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from cilia.cluster import agentapi
from cilia.cluster.layout import Layout, netns_path
from cilia.cluster.network import create_namespace, delete_namespace
from cilia.contracts.agent import CreateEndpoint, EndpointReference, LocalEndpoint, RelabelEndpoint
from cilia.contracts.messages import Empty
from cilia.netns import inside


@dataclass(slots=True)
class Pod:
    """A connected pod."""

    layout: Layout
    node: str
    endpoint: LocalEndpoint
    network: str
    """Its network namespace."""
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return f"{self.endpoint.namespace}/{self.endpoint.name}"

    @property
    def ipv4(self) -> str:
        """Its address."""
        return self.endpoint.ipv4

    @property
    def agent_socket(self) -> Path:
        """The API of its node's agent."""
        return self.layout.agent_socket(self.node)

    @property
    def reference(self) -> EndpointReference:
        """How to name it in a call."""
        return EndpointReference(namespace=self.endpoint.namespace, name=self.endpoint.name)

    def open_socket(self, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """Open a non-blocking IPv4 socket inside; it is the caller's to close."""
        with inside(netns_path(self.network)):
            opened = socket.socket(socket.AF_INET, kind, protocol)
        opened.setblocking(False)
        return opened

    def listen(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Open a socket bound to a port on all addresses, listening if it is TCP; closed with the pod."""
        opened = self.open_socket(kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            opened.listen(128)
        self.sockets.append(opened)
        return opened

    def relabel(self, labels: dict[str, str], namespace_labels: dict[str, str] | None = None) -> None:
        """Give it other labels."""
        request = RelabelEndpoint(self.reference, labels, namespace_labels or {})
        self.endpoint = agentapi.call(self.agent_socket, "endpoint-relabel", request, LocalEndpoint)

    def delete(self) -> None:
        """Disconnect it and remove its namespace."""
        self.close()
        agentapi.call(self.agent_socket, "endpoint-delete", self.reference, Empty)
        delete_namespace(self.network)

    def close(self) -> None:
        """Close the sockets of its servers."""
        while self.sockets:
            self.sockets.pop().close()


def create_pod(
    layout: Layout,
    node: str,
    namespace: str,
    name: str,
    labels: dict[str, str],
    namespace_labels: dict[str, str],
) -> Pod:
    """Make a network namespace and have the node's agent connect it.

    Raises:
        Refused: The agent said no; the namespace is gone again.
    """
    network = layout.pod_namespace(namespace, name)
    create_namespace(network)
    request = CreateEndpoint(namespace, name, str(netns_path(network)), labels, namespace_labels)
    try:
        endpoint = agentapi.call(layout.agent_socket(node), "endpoint-create", request, LocalEndpoint)
    except BaseException:
        delete_namespace(network)
        raise
    return Pod(layout, node, endpoint, network)
