"""Pods of a local cluster: network namespaces that a node's agent has connected."""

from dataclasses import dataclass
from pathlib import Path

from cilia.contracts.agent import CreateEndpoint, EndpointReference, LocalEndpoint, RelabelEndpoint
from cilia.contracts.messages import Empty
from laboratory import agent_client
from laboratory.layout import Layout, netns_path
from laboratory.machine import Machine
from laboratory.namespaces import create_namespace, delete_namespace


@dataclass(slots=True, kw_only=True)
class Pod(Machine):
    """A connected pod; its name is ``namespace/name``."""

    layout: Layout
    node: str
    endpoint: LocalEndpoint

    @property
    def agent_socket(self) -> Path:
        """Socket of its node's agent."""
        return self.layout.agent_socket(self.node)

    @property
    def reference(self) -> EndpointReference:
        """Reference to it in calls."""
        return EndpointReference(namespace=self.endpoint.namespace, name=self.endpoint.name)

    def relabel(self, labels: dict[str, str], namespace_labels: dict[str, str] | None = None) -> None:
        """Give it other labels."""
        request = RelabelEndpoint(self.reference, labels, namespace_labels or {})
        self.endpoint = agent_client.call(self.agent_socket, "endpoint-relabel", request, LocalEndpoint)

    def delete(self) -> None:
        """Disconnect it and remove its namespace."""
        self.close()
        agent_client.call(self.agent_socket, "endpoint-delete", self.reference, Empty)
        delete_namespace(self.network)


def create_pod(
    layout: Layout,
    node: str,
    namespace: str,
    name: str,
    labels: dict[str, str],
    namespace_labels: dict[str, str],
    named_ports: tuple[tuple[str, str, int], ...] = (),
) -> Pod:
    """Make a network namespace and have the node's agent connect it.

    Raises:
        Refused: The agent said no; the namespace is gone again.
    """
    network = layout.pod_namespace(namespace, name)
    create_namespace(network)
    request = CreateEndpoint(
        namespace, name, str(netns_path(network)), labels, namespace_labels, named_ports=named_ports
    )
    try:
        endpoint = agent_client.call(layout.agent_socket(node), "endpoint-create", request, LocalEndpoint)
    except BaseException:
        delete_namespace(network)
        raise
    return Pod(
        name=f"{namespace}/{name}",
        ipv4=endpoint.ipv4,
        ipv6=endpoint.ipv6,
        network=network,
        layout=layout,
        node=node,
        endpoint=endpoint,
    )
