"""Addresses of the node itself: which they are, kept in cilia_host_addresses."""

from collections.abc import Callable, Iterable
from typing import Final, Self

from cilia.abi import maps
from cilia.abi.enums import HostAddressKind
from cilia.abi.structs import HostAddressKey
from cilia.contracts.agent import LoopName, LoopStatus
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.address import Prefix, packed, unpacked
from services.agent.drift.loop import Look
from services.agent.host.addresses import HostAddresses
from services.agent.host.publication import AddressPublication
from services.agent.host.reconciler import HostAddressReconciler
from services.agent.kernel import Kernel
from services.agent.loader.devices import HOST
from services.agent.maptable import MapTable
from services.agent.netlink.addresses import AddressNotices, DeviceAddress, read_addresses
from services.agent.netlink.queries import ifindex
from services.agent.netlink.rtnetlink import RtNetlink
from services.agent.node.pool import Addresses
from services.agent.node.room import NodeRoom
from services.agent.room import Entries, Room

UNPUBLISHED: Final = (HOST, "docker0", "kube-ipvs0")
"""Devices whose addresses other nodes know otherwise (the pods' gateways), or have themselves."""


class HostRoom(Room):
    """Addresses of the node's devices.

    Attributes:
        addresses: Which they are.
    """

    def __init__(self, kernel: Kernel, node: NodeRoom, renew: Callable[[Prefix], None]) -> None:
        self.addresses = HostAddresses()
        self._listeners: list[Callable[[], None]] = []
        self._notices = AddressNotices()
        self._table = host_address_table(kernel, renew)
        registration = node.registration
        self.publication = AddressPublication(
            node.bus, registration.node, registration.incarnation, lambda: self.addresses.published
        )
        self.tell(self.publication.renew)
        self.reconciler = HostAddressReconciler(self.addresses, self._table, _read, kernel.links.run, self._tell)

    @classmethod
    async def open(cls, kernel: Kernel, node: NodeRoom, renew: Callable[[Prefix], None]) -> Self:
        """Open the map, and have the addresses of this moment in it.

        Args:
            renew: Has the flows of an address decided anew.
        """
        room = cls(kernel, node, renew)
        await room.reconciler.read()
        return room

    def registered(self, _: Addresses) -> None:
        """Have the addresses told to a cluster that may not know them."""
        self.publication.renew()

    def tell(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` now, and after each change of the addresses."""
        self._listeners.append(listener)
        listener()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def loops(self) -> dict[str, Loop]:
        """Return the loops that hear of addresses, read them and write them."""
        return {
            "host address notices": self._watch,
            "host address reading": self.reconciler.follow,
            "host addresses": self.reconciler.run,
            "host address publication": self.publication.run,
        }

    async def _watch(self) -> None:
        await self._notices.watch(self.reconciler.notice)

    def looks(self) -> dict[str, Look]:
        """Return the look at cilia_host_addresses."""
        return {"host addresses": self.reconciler.look}

    def statuses(self) -> Iterable[LoopStatus]:
        """Return the state of cilia_host_addresses."""
        host = self.reconciler
        yield LoopStatus(LoopName.HOST_ADDRESSES, host.desired, host.pending, host.failures, host.last_error)

    def errors(self) -> Iterable[str]:
        """Return why addresses are missing, here or at other nodes."""
        return self.reconciler.last_error, self.publication.last_error

    def measure(self, metrics: Metrics) -> None:
        """Show how many addresses there are."""
        metrics.gauge("host_addresses", "entries of cilia_host_addresses", lambda: self.reconciler.desired)

    def map_entries(self) -> Entries:
        """Return the addresses that the reconciler keeps count of."""
        return {maps.HOST_ADDRESSES.name: lambda: self.reconciler.desired}

    def close(self) -> None:
        """Give the map and the socket back."""
        self._table.close()
        self._notices.close()


def host_address_table(
    kernel: Kernel, renew: Callable[[Prefix], None]
) -> MapTable[int, HostAddressKind, HostAddressKey, int]:
    """Return cilia_host_addresses; the flows of what is written are decided anew."""

    def renew_each(addresses: Iterable[int]) -> None:
        for address in addresses:
            renew(Prefix(address))

    return MapTable(
        kernel.objects,
        maps.HOST_ADDRESSES,
        pack_key=lambda address: HostAddressKey(packed(address)),
        pack_value=int,
        unpack=lambda key, kind: (unpacked(key.address), HostAddressKind(kind)),
        written=renew_each,
    )


def _read() -> tuple[list[DeviceAddress], frozenset[int]]:
    with RtNetlink() as netlink:
        return list(read_addresses(netlink)), frozenset(filter(None, map(ifindex, UNPUBLISHED)))
