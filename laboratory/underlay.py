"""Underlay of a local cluster: the nodes' namespaces, joined by a bridge in the hub's."""

from collections.abc import Sequence

from laboratory.layout import HUB_ADDRESS, HUB_IPV6, UNDERLAY_IPV6_PREFIX, UNDERLAY_PREFIX, Layout
from laboratory.namespaces import create_namespace, ip
from laboratory.state import UnderlayNode


def create_underlay(layout: Layout, nodes: Sequence[UnderlayNode]) -> None:
    """Make the hub with its bridge, and each node with a device ``eth0`` on it.

    Raises:
        NetworkFailed: A namespace exists already, or root is missing.
    """
    hub = layout.hub
    create_namespace(hub)
    ip(
        f"-n {hub}",
        [
            "link add br0 type bridge",
            f"addr add {HUB_ADDRESS}/{UNDERLAY_PREFIX} dev br0",
            f"addr add {HUB_IPV6}/{UNDERLAY_IPV6_PREFIX} dev br0 nodad",
            "link set br0 up",
        ],
    )
    for node in nodes:
        namespace = layout.namespace(node.name)
        create_namespace(namespace)
        port = f"to-{node.name}"
        ip(
            f"-n {hub}",
            [
                f"link add {port} type veth peer name eth0 netns {namespace}",
                f"link set {port} master br0 up",
            ],
        )
        ip(
            f"-n {namespace}",
            [
                f"addr add {node.ipv4}/{UNDERLAY_PREFIX} dev eth0",
                f"addr add {node.ipv6}/{UNDERLAY_IPV6_PREFIX} dev eth0 nodad",
                "link set eth0 up",
            ],
        )
