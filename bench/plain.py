"""Plain Linux for comparison: the same pods, links, addresses and MTU under the kernel's routing.

::

    pod a          node                          pod b
    eth0 --- veth --- routes, forwarding --- veth --- eth0    plain routing, or under nftables

    pod a --- node1 --- vxlan --- eth0 --- bridge --- eth0 --- vxlan --- node2 --- pod b      VXLAN

Namespaces and underlay are made by what makes those of a local cluster; neighbours are known in
advance, as there.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.traffic import Way
from cilia.abi import defaults
from laboratory.layout import Layout, netns_path, node_addresses, node_names
from laboratory.namespaces import create_namespace, delete_namespace, namespaces_of
from laboratory.state import UnderlayNode
from laboratory.underlay import create_underlay

MTU_BYTES: Final = 1450
"""MTU of pods under an underlay of 1500, as agents give it: what fits into VXLAN."""
GATEWAY: Final = "10.9.0.1"
GATEWAY_MAC: Final = defaults.GATEWAY_MAC.hex(":")
VNI: Final = 42
VXLAN_PORT: Final = 4789
CLIENT, SERVER = 1, 2
"""Numbers of pods."""


@dataclass(frozen=True, slots=True)
class PlainNode:
    """A node's namespace, in which pods are connected by routes alone."""

    layout: Layout
    name: str

    @property
    def namespace(self) -> str:
        """Name of its network namespace."""
        return self.layout.namespace(self.name)

    def add_pod(self, number: int) -> None:
        """Connect a pod the way the agent does, but for programs."""
        pod, device = self.pod(number), f"lxc{number}"
        create_namespace(pod)
        ip(
            self.namespace,
            f"link add {device} mtu {MTU_BYTES} address {GATEWAY_MAC} type veth "
            f"peer name eth0 mtu {MTU_BYTES} address {mac(number)} netns {pod}",
            f"link set {device} up",
            f"route add {address(number)}/32 dev {device} scope link",
            f"neigh add {address(number)} lladdr {mac(number)} dev {device} nud permanent",
        )
        ip(
            pod,
            f"addr add {address(number)}/32 dev eth0",
            "link set eth0 up",
            f"neigh add {GATEWAY} lladdr {GATEWAY_MAC} dev eth0 nud permanent",
            f"route add default via {GATEWAY} dev eth0 onlink",
        )

    def add_vxlan(self, number: int, underlay: str, peer: int, peer_underlay: str) -> None:
        """Lead to a pod of another node by VXLAN; without a UDP checksum, as the agent's."""
        ip(
            self.namespace,
            f"link add vxlan mtu {MTU_BYTES} address {mac(number)} type vxlan id {VNI} dstport {VXLAN_PORT} "
            f"local {underlay} remote {peer_underlay} nolearning noudpcsum",
            "link set vxlan up",
            f"neigh add {address(peer)} lladdr {mac(peer)} dev vxlan nud permanent",
            f"route add {address(peer)}/32 dev vxlan scope link",
        )

    def pod(self, number: int) -> str:
        """Return the network namespace of a pod."""
        return self.layout.pod_namespace(self.name, str(number))


def address(number: int) -> str:
    """Return the address of a pod."""
    return f"10.9.0.{10 + number}"


def mac(number: int) -> str:
    """Return the MAC address of a pod, and of the VXLAN device before it."""
    return f"02:00:00:00:00:{number:02x}"


@contextmanager
def plain_routing(layout: Layout, name: str) -> Iterator[tuple[PlainNode, Way]]:
    """One node with two pods for the block."""
    node = PlainNode(layout, name)
    with removed_after(layout, name):
        create_namespace(node.namespace)
        for number in (CLIENT, SERVER):
            node.add_pod(number)
        yield node, way(node, node)


@contextmanager
def plain_vxlan(layout: Layout) -> Iterator[Way]:
    """Two nodes with a pod each for the block."""
    records = [UnderlayNode(name, *map(str, node_addresses(index))) for index, name in enumerate(node_names(2))]
    nodes = [PlainNode(layout, record.name) for record in records]
    with removed_after(layout, ""):
        create_underlay(layout, records)
        for node, number, peer in zip(nodes, (CLIENT, SERVER), (SERVER, CLIENT), strict=True):
            node.add_pod(number)
            node.add_vxlan(number, records[number - 1].ipv4, peer, records[peer - 1].ipv4)
        yield way(*nodes)


def way(client: PlainNode, server: PlainNode) -> Way:
    """Return how traffic gets from the one pod to the other."""
    return Way(netns_path(client.pod(CLIENT)), netns_path(server.pod(SERVER)), address(SERVER))


@contextmanager
def removed_after(layout: Layout, name: str) -> Iterator[None]:
    """Remove a node and its pods after the block; all of the layout if it has no name."""
    prefixes = (layout.namespace(name), layout.pod_namespace(name, "")) if name else (layout.namespace_prefix,)
    try:
        yield
    finally:
        for namespace in namespaces_of(layout):
            if namespace.startswith(prefixes):
                delete_namespace(namespace)


def ip(namespace: str, *commands: str) -> None:
    """Have iproute2 carry commands out in a namespace."""
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(commands), text=True, check=True)
