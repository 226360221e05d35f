"""Stranger on the underlay of a local cluster: on the nodes' network, and no node."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from cilia.netns import inside
from laboratory.cluster import LocalCluster
from laboratory.layout import HUB_ADDRESS, netns_path

VXLAN_PORT = 8472
INSTANCE = 8
"""Flag of a VXLAN header that says that it has a number (RFC 7348)."""


class Stranger:
    """Open packet socket at the bridge that joins the nodes."""

    def __init__(self, cluster: LocalCluster, opened: socket.socket) -> None:
        self._cluster = cluster
        self._socket = opened
        self.address = str(HUB_ADDRESS)

    def send(self, node: str, packet: Packet) -> None:
        """Send a packet, from the IP header on, to a node's device."""
        self._socket.send(bytes(Ether(dst=self.mac_of(node)) / packet))

    def tunnel(self, node: str, packet: Packet, identity: int, *, outer: str = "") -> None:
        """Send a packet as if another node's tunnel did.

        Args:
            outer: Address to send from; empty: the stranger's own.
        """
        target = self._cluster.host(node)
        head = IP(src=outer or self.address, dst=target.ipv4) / UDP(sport=50000, dport=VXLAN_PORT, chksum=0)
        inner = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
        self.send(node, head / VXLAN(vni=identity, flags=INSTANCE) / Raw(inner))

    def mac_of(self, node: str) -> str:
        """Return the MAC address of a node's device on the underlay."""
        command = ["ip", "-n", self._cluster.layout.namespace(node), "-j", "link", "show", "eth0"]
        (link,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return str(link["address"])


@contextmanager
def stranger_on(cluster: LocalCluster) -> Iterator[Stranger]:
    """Have a stranger on a cluster's underlay for the block."""
    with inside(netns_path(cluster.layout.hub)):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.bind(("br0", 0))
    with opened:
        yield Stranger(cluster, opened)
