"""External host of a local cluster: beyond the nodes, behind a router without routes to pods.

::

    nodes eth0 --- br0  hub  to-world --- eth0  world
    172.31.0.0/16       (router)          198.51.100.0/24
    fd00:31::/64                          2001:db8:100::/64

The router forwards for the nodes and has no route to pods, so what leaves a node with a pod's
address gets no answer.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from laboratory.layout import HUB_ADDRESS, HUB_IPV6, Layout
from laboratory.machine import Machine
from laboratory.namespaces import create_namespace, ip
from laboratory.state import UnderlayNode

ADDRESS: Final = IPv4Address("198.51.100.10")
ROUTER: Final = IPv4Address("198.51.100.1")
PREFIX: Final = 24
IPV6: Final = IPv6Address("2001:db8:100::10")
ROUTER_IPV6: Final = IPv6Address("2001:db8:100::1")
PREFIX_IPV6: Final = 64
PORT: Final = "to-world"


def create_external_host(layout: Layout, nodes: Sequence[UnderlayNode]) -> None:
    """Make the external host, and have the nodes send by the hub what they have no route for.

    Raises:
        NetworkFailed: A namespace exists already, or root is missing.
    """
    world, hub = layout.external_host, layout.hub
    create_namespace(world)
    ip(
        f"-n {hub}",
        [
            f"link add {PORT} type veth peer name eth0 netns {world}",
            f"addr add {ROUTER}/{PREFIX} dev {PORT}",
            f"addr add {ROUTER_IPV6}/{PREFIX_IPV6} dev {PORT} nodad",
            f"link set {PORT} up",
        ],
    )
    ip(
        f"-n {world}",
        [
            f"addr add {ADDRESS}/{PREFIX} dev eth0",
            f"addr add {IPV6}/{PREFIX_IPV6} dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {ROUTER}",
            f"route add default via {ROUTER_IPV6}",
        ],
    )
    for node in nodes:
        ip(
            f"-n {layout.namespace(node.name)}",
            [f"route add default via {HUB_ADDRESS}", f"route add default via {HUB_IPV6}"],
        )


def external_host_of(layout: Layout) -> Machine:
    """Return the host beyond the nodes."""
    return Machine(name="world", ipv4=str(ADDRESS), ipv6=str(IPV6), network=layout.external_host)


def host_of(layout: Layout, node: UnderlayNode) -> Machine:
    """Return a node's host, which talks from its own stack."""
    return Machine(name=node.name, ipv4=node.ipv4, ipv6=node.ipv6, network=layout.namespace(node.name))
