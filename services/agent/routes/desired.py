"""Desired routes to the pods of other nodes: the table of nodes in, changes of routes out.

Pure. There is one route for each block of another node, of either family:

- overlay: into the VXLAN device, where a program finds the node; the node's own packets get the
  pods' gateway as source, which all nodes know behind its tunnel. One next hop stands for all, so
  that the kernel keeps one neighbour.
- native: by way of the other node's own address, with this node's own as source, by which all know
  it, whatever else the device has.

Where two rows claim a block (it is granted again before its former holder's row is gone), the newer
wins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple, Protocol

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node

Network = IPv4Network | IPv6Network
NEXT_HOP: Final[Mapping[int, str]] = {4: "169.254.1.1", 6: "fe80::1"}
"""Next hop by IP version; nobody has it, and the VXLAN device asks nobody for its MAC address."""


class Route(NamedTuple):
    """Next hop of the packets to a block."""

    gateway: str
    device: int = 0
    """Index of the device; 0: the one by which the gateway is reached."""
    source: str = ""
    """Source address of the node's own packets; empty: as the kernel chooses."""
    onlink: bool = False
    """Gateway is on the device, whatever the addresses say."""


class Way(Protocol):
    """Way to the pods of other nodes."""

    def route_to(self, node: Node, block: Network) -> Route | None:
        """Return the route to a block of another node; None: there is none yet."""
        ...


@dataclass(slots=True)
class NativeWay:
    """Way by the other node's own address; the network between knows nothing of pods."""

    sources: Mapping[int, str] = field(default_factory=dict)
    """This node's own address by IP version, as far as it has one."""

    def route_to(self, node: Node, block: Network) -> Route | None:
        """Return the route by the node's address of that family; None if it has none."""
        gateway = node.ipv4 if block.version == 4 else node.ipv6
        return Route(gateway, source=self.sources.get(block.version, "")) if gateway else None


@dataclass(slots=True)
class OverlayWay:
    """Way into the VXLAN device."""

    device: int
    sources: dict[int, str] = field(default_factory=dict)
    """Pods' gateway by IP version, as far as it is known."""

    def route_to(self, node: Node, block: Network) -> Route | None:
        """Return the route into the tunnel; None while the node has no address to send from."""
        source = self.sources.get(block.version)
        return Route(NEXT_HOP[block.version], self.device, source, onlink=True) if source else None


class Routes:
    """Desired routes, kept up to date row by row."""

    def __init__(self, node: NodeName, way: Way) -> None:
        self._node = node
        self._way = way
        self._nodes: dict[NodeName, Node] = {}
        self._holders: dict[Network, list[NodeName]] = {}
        self._changed: set[Network] = set()
        self.desired: dict[Network, Route] = {}

    def feed(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes."""
        for name in (*removes, *upserts):
            old, new = self._nodes.pop(name, None), upserts.get(name)
            if new is not None:
                self._nodes[name] = new
            before, after = _blocks(old), _blocks(new)
            for block in before - after:
                self._drop_holder(block, name)
            for block in after - before:
                self._holders.setdefault(block, []).append(name)
            for block in before | after:
                self._update(block)

    def renew(self) -> None:
        """Compute all routes anew: the way has learned something."""
        for block in self._holders:
            self._update(block)

    def take_changes(self) -> dict[Network, Route | None]:
        """Return the routes that changed since the last call; None where one is desired no more."""
        changed, self._changed = self._changed, set()
        return {block: self.desired.get(block) for block in changed}

    def _drop_holder(self, block: Network, name: NodeName) -> None:
        holders = self._holders[block]
        holders.remove(name)
        if not holders:
            del self._holders[block]

    def _update(self, block: Network) -> None:
        holders = self._holders.get(block)
        wanted = None
        if holders and holders[-1] != self._node:
            wanted = self._way.route_to(self._nodes[holders[-1]], block)
        if wanted == self.desired.get(block):
            return
        if wanted is None:
            del self.desired[block]
        else:
            self.desired[block] = wanted
        self._changed.add(block)


def _blocks(row: Node | None) -> set[Network]:
    return {ip_network(cidr) for cidr in row.pod_cidrs} if row else set()
