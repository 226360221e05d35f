"""Desired entries of cilia_host_addresses: at which addresses the node's own stack listens.

Pure. Beside the addresses of all devices these are what the kernel adds to them: the broadcast
addresses of IPv4 networks, and of IPv6 networks the address of any router (RFC 4291, 2.6.1), which
a node that forwards has. Loopback addresses need no entry: the programs know them.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from cilia.abi.enums import HostAddressKind
from cilia.contracts.ipam import MOST_NODE_ADDRESSES
from services.agent.address import number
from services.agent.netlink.addresses import DeviceAddress

POINT_TO_POINT_BITS: Final = {4: 31, 6: 127}
"""Networks of this length or longer have neither broadcast nor anycast (RFC 3021, RFC 6164)."""


class HostAddresses:
    """Desired entries, made anew from what the kernel has."""

    def __init__(self) -> None:
        self.desired: dict[int, HostAddressKind] = {}
        self.published: tuple[str, ...] = ()
        """Addresses by which other nodes may meet this one."""
        self._changed: set[int] = set()

    @property
    def own(self) -> frozenset[int]:
        """Addresses that are this node's alone, unlike broadcast addresses."""
        return frozenset(address for address, kind in self.desired.items() if kind is HostAddressKind.OWN)

    def take_changes(self) -> set[int]:
        """Return the addresses that came, went or changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def replace(self, found: Iterable[DeviceAddress], unpublished: frozenset[int] = frozenset()) -> None:
        """Take the addresses of all devices, in place of those before.

        Args:
            unpublished: Devices whose addresses other nodes are not told, by index.
        """
        present = [each for each in found if not each.is_duplicate and not ip_address(each.address).is_loopback]
        fresh = desired_entries(present)
        for address in fresh.keys() | self.desired.keys():
            if fresh.get(address) is not self.desired.get(address):
                self._changed.add(address)
        for address in self._changed:
            if address in fresh:
                self.desired[address] = fresh[address]
            else:
                self.desired.pop(address, None)
        self.published = published_addresses(each for each in present if each.ifindex not in unpublished)


def desired_entries(present: Iterable[DeviceAddress]) -> Mapping[int, HostAddressKind]:
    """Return what the kernel listens at; what a device has as its own is no broadcast address."""
    broadcast: set[int] = set()
    own: set[int] = set()
    for each in present:
        address = ip_address(each.address)
        own.add(number(str(address)))
        network = ip_network((each.address, each.prefix_bits), strict=False)
        if each.broadcast:
            broadcast.add(number(str(IPv4Address(each.broadcast))))
        if each.prefix_bits >= POINT_TO_POINT_BITS[address.version]:
            continue
        if isinstance(network, IPv4Network):
            broadcast.add(number(str(network.broadcast_address)))
        elif isinstance(network, IPv6Network):
            own.add(number(str(network.network_address)))
    return {
        **dict.fromkeys(broadcast, HostAddressKind.BROADCAST),
        **dict.fromkeys(own, HostAddressKind.OWN),
    }


def published_addresses(present: Iterable[DeviceAddress]) -> tuple[str, ...]:
    """Return the addresses that other nodes are told, in order, as many as they may be."""
    found: set[IPv4Address | IPv6Address] = {ip_address(each.address) for each in present if each.is_global}
    told = sorted((each for each in found if not each.is_link_local), key=lambda each: (each.version, each))
    return tuple(map(str, told[:MOST_NODE_ADDRESSES]))
