"""Desired entries of cilia_ipcache: identity of each address, and the node behind which it lives.

Pure. The node's own pods come from the agent itself, not from the table, so that they are known at
once and stay known while the bus is away. Where two rows claim an address (a pod's successor is
heard of before its end, a virtual address moves to another node), the newer wins.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from cilia.abi.enums import IpcacheFlag
from cilia.contracts.identities import Reserved, is_remote_node
from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.tables import Endpoint, EndpointKey, Node, PrefixRow
from services.agent.address import HOST_BITS, MAPPED_BITS, Prefix, ipv4_number, number
from services.agent.address import prefix as parse_prefix


class Location(NamedTuple):
    """Entry of cilia_ipcache: identity of the addresses, and the node behind which they live."""

    identity: int
    tunnel: int = 0
    """IPv4 address of the tunnel's other end, in host order; 0: no tunnel."""
    flags: int = 0
    """:class:`~cilia.abi.enums.IpcacheFlag`."""
    owner: int = 0
    """Number of the pod, by which the programs tell it from its predecessor; 0: none of another
    node.
    """


OWNERS: Final = 0xFFFF

WORLD_LOCATIONS: Final[Mapping[Prefix, Location]] = {
    Prefix(number("0.0.0.0"), MAPPED_BITS): Location(Reserved.WORLD_IPV4),
    Prefix(number("::"), 0): Location(Reserved.WORLD_IPV6),
}
"""Entries that hold where no longer prefix does."""


class Ipcache:
    """Desired entries, kept up to date row by row.

    Args:
        addresses: Addresses of the node itself.
        tunnels: Whether pods of other nodes are behind tunnels; otherwise routes lead to them.
    """

    def __init__(self, node: NodeName, *addresses: str, tunnels: bool = True) -> None:
        self._node = node
        self._tunnels = tunnels
        self._nodes: dict[NodeName, Node] = {}
        self._rows: dict[EndpointKey, tuple[tuple[int, ...], Identity]] = {}
        self._owners: dict[int, list[EndpointKey]] = {}
        self._local: dict[int, Identity] = {}
        self._hosts: dict[int, dict[NodeName, Location]] = {}
        self._own = dict(WORLD_LOCATIONS)
        self._host_addresses: frozenset[int] = frozenset()
        self._outside: dict[Prefix, Location] = {}
        self.desired: dict[Prefix, Location] = {}
        self._changed: set[Prefix] = set()
        for outside in WORLD_LOCATIONS:
            self._update(outside)
        for address in addresses:
            self.set_host(number(address))

    def take_changes(self) -> dict[Prefix, Location | None]:
        """Return the entries that changed since the last call; None: desired no more."""
        changed, self._changed = self._changed, set()
        return {prefix: self.desired.get(prefix) for prefix in changed}

    def owner(self, address: int) -> EndpointKey | None:
        """Return the remote pod that an address belongs to."""
        owners = self._owners.get(address)
        return owners[-1] if owners else None

    def set_host(self, address: int) -> None:
        """Note an address of this node itself."""
        prefix = Prefix(address)
        self._own[prefix] = Location(Reserved.HOST)
        self._update(prefix)

    def set_host_addresses(self, addresses: Iterable[int]) -> None:
        """Note all addresses that the devices of this node have, in place of those before."""
        former, self._host_addresses = self._host_addresses, frozenset(addresses)
        for address in former ^ self._host_addresses:
            self._update(Prefix(address))

    def set_local(self, address: int, identity: Identity | None) -> None:
        """Note an address of a pod of this node, or with None that it is gone."""
        if identity is None:
            self._local.pop(address, None)
        else:
            self._local[address] = identity
        self._update(Prefix(address))

    def feed_nodes(self, upserts: Mapping[NodeName, Node], removes: Iterable[NodeName]) -> None:
        """Take changes of the table of nodes; the pods of a node that moves move with it."""
        moved: set[NodeName] = set()
        for name in (*removes, *upserts):
            old, new = self._nodes.pop(name, None), upserts.get(name)
            if new is not None:
                self._nodes[name] = new
            self._move_host(name, self._host_locations(old), self._host_locations(new))
            if (old and old.ipv4) != (new and new.ipv4):
                moved.add(name)
        if moved:
            for key, (addresses, _) in self._rows.items():
                if key.node in moved:
                    for address in addresses:
                        self._update(Prefix(address))

    def _move_host(self, name: NodeName, old: Mapping[int, Location], new: Mapping[int, Location]) -> None:
        """Note what has become of a node's addresses."""
        for address in {*old, *new}:
            if old.get(address) == new.get(address):
                continue
            claims = self._hosts.setdefault(address, {})
            claims.pop(name, None)
            if address in new:
                claims[name] = new[address]
            if not claims:
                del self._hosts[address]
            self._update(Prefix(address))

    def feed_prefixes(self, upserts: Mapping[str, PrefixRow], removes: Iterable[str]) -> None:
        """Take changes of the table of prefixes; of pods and nodes, only labels of nodes change."""
        for text in removes:
            self._outside.pop(parse_prefix(text), None)
            self._update(parse_prefix(text))
        for text, row in upserts.items():
            self._outside[parse_prefix(text)] = Location(row.identity)
            self._update(parse_prefix(text))

    def has_prefix(self, cidr: str) -> bool:
        """Tell whether a prefix outside of the cluster is known."""
        return parse_prefix(cidr) in self._outside

    def has_identity(self, prefix: Prefix, identity: Identity) -> bool:
        """Tell whether an address or prefix is to have an identity."""
        found = self.desired.get(prefix)
        return found is not None and found.identity == identity

    def feed_endpoints(self, upserts: Mapping[EndpointKey, Endpoint], removes: Iterable[EndpointKey]) -> None:
        """Take changes of the table of endpoints; rows of this node are passed over."""
        for key in removes:
            self._forget(key)
        for key, row in upserts.items():
            if key.node == self._node:
                continue
            addresses = tuple(number(address) for address in (row.ipv4, row.ipv6) if address)
            known = self._rows.get(key)
            if known is not None and known[0] != addresses:
                self._forget(key)
            self._rows[key] = (addresses, row.identity)
            for address in addresses:
                owners = self._owners.setdefault(address, [])
                if key not in owners:
                    owners.append(key)
                self._update(Prefix(address))

    def _forget(self, key: EndpointKey) -> None:
        addresses, _ = self._rows.pop(key, ((), None))
        for address in addresses:
            owners = self._owners[address]
            owners.remove(key)
            if not owners:
                del self._owners[address]
            self._update(Prefix(address))

    def _update(self, prefix: Prefix) -> None:
        """Compute one entry anew."""
        wanted = self._own.get(prefix)
        if wanted is None and prefix.length == HOST_BITS and prefix.address in self._host_addresses:
            wanted = Location(Reserved.HOST)
        if wanted is None and prefix.length == HOST_BITS:
            wanted = self._pod(prefix.address) or self._host(prefix)
        wanted = wanted or self._outside.get(prefix)
        if wanted == self.desired.get(prefix):
            return
        if wanted is None:
            del self.desired[prefix]
        else:
            self.desired[prefix] = wanted
        self._changed.add(prefix)

    def _pod(self, address: int) -> Location | None:
        if address in self._local:
            return Location(self._local[address])
        for key in reversed(self._owners.get(address, ())):
            home = self._nodes.get(key.node)
            if home is not None:
                return Location(self._rows[key][1], self._tunnel_to(home), owner=owner_number(key))
        return None

    def _host(self, prefix: Prefix) -> Location | None:
        claims, labelled = self._hosts.get(prefix.address), self._outside.get(prefix)
        host = claims[next(reversed(claims))] if claims else None
        if host is None or labelled is None or host.identity == Reserved.HOST:
            return host
        return host._replace(identity=labelled.identity) if is_remote_node(Identity(labelled.identity)) else host

    def _host_locations(self, row: Node | None) -> dict[int, Location]:
        if row is None or row.name == self._node:
            return dict.fromkeys(_addresses(row), Location(Reserved.HOST))
        routed = IpcacheFlag.ROUTED if self._tunnels else 0
        met_by = (*_underlay(row), *map(number, row.addresses))
        underlay = dict.fromkeys(met_by, Location(Reserved.REMOTE_NODE, self._tunnel_to(row), routed))
        behind = dict.fromkeys(_gateways(row), Location(Reserved.REMOTE_NODE, self._tunnel_to(row)))
        return {**underlay, **behind}

    def _tunnel_to(self, home: Node) -> int:
        return ipv4_number(home.ipv4) if self._tunnels else 0


def owner_number(key: EndpointKey) -> int:
    """Return a number of 16 bits for an endpoint. A node uses an id again after all others only, so
    it is not that of the pod that had an address before.
    """
    return zlib.crc32(f"{key.node}/{key.id}".encode()) % OWNERS + 1


def _addresses(row: Node | None) -> tuple[int, ...]:
    """Return a node's own addresses: on the underlay, and the gateways of its pods."""
    return () if row is None else (*_underlay(row), *_gateways(row))


def _underlay(row: Node) -> tuple[int, ...]:
    return tuple(number(address) for address in (row.ipv4, row.ipv6) if address)


def _gateways(row: Node) -> tuple[int, ...]:
    return tuple(map(number, row.gateways))


def covering(entries: Mapping[Prefix, Location], prefix: Prefix) -> Identity:
    """Return the identity of the longest entry that covers a prefix, or of the world."""
    for length in range(min(prefix.length, HOST_BITS - 1), -1, -1):
        behind = HOST_BITS - length
        found = entries.get(Prefix(prefix.address >> behind << behind, length))
        if found is not None:
            return Identity(found.identity)
    return Identity(Reserved.WORLD_IPV6)
