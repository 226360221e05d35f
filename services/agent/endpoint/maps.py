"""Map of the node's pods, cilia_endpoints, as the agent reads and writes it.

Pinned, so it outlives the agent. ``read`` is for one thread at a time, which may be another than
the writer's: it uses a descriptor of its own.
"""

from typing import Final

from cilia.abi import maps
from cilia.abi.enums import EndpointFlag
from cilia.abi.structs import Endpoint as EndpointValue
from cilia.abi.structs import EndpointKey
from cilia.datapath.objects import LoadedObject
from services.agent.address import Prefix, packed, unpacked
from services.agent.endpoint.store import Pod
from services.agent.ipcache.revisions import AddressRevisions


class EndpointMap:
    """The map cilia_endpoints: a pod's link, identity and policy slot by address."""

    def __init__(self, objects: LoadedObject, revisions: AddressRevisions) -> None:
        self._map, self._read_map = objects.map(maps.ENDPOINTS), objects.map(maps.ENDPOINTS)
        self._revisions = revisions
        self.entries: Final = self.read()
        """Entries that we read at first and have written since, by address."""
        self.writes = 0
        """Number that grows with each change by ourselves."""

    def close(self) -> None:
        """Give the map back."""
        self._map.close()
        self._read_map.close()

    def read(self) -> dict[int, EndpointValue]:
        """Return the entries in the kernel, by address."""
        return {unpacked(key.address): value for key, value in self._read_map.items()}

    def put_pod(self, pod: Pod, slot: int) -> None:
        """Make a pod known to the programs; slot 0: all of its packets are dropped.

        Raises:
            MapFull: No room.
        """
        mac = bytes.fromhex(pod.mac.replace(":", ""))
        flags = EndpointFlag.AUDIT if pod.audit else 0
        value = EndpointValue(pod.ifindex, pod.identity, pod.id, slot, mac, flags)
        for address in pod.numbers:
            self.put(address, value)

    def put(self, address: int, value: EndpointValue) -> None:
        """Write the entry of an address of a pod. With another link its flows are decided anew, as
        they remember where packets go.

        Raises:
            MapFull: No room.
        """
        former = self.entries.get(address)
        self._map.update(EndpointKey(packed(address)), value)
        self._revisions.note_change()
        if former is not None and (former.ifindex, former.mac) != (value.ifindex, value.mac):
            self._revisions.renew(Prefix(address))
        self.entries[address] = value
        self.writes += 1

    def remove(self, address: int) -> None:
        """Make an address of a pod unknown to the programs."""
        self._map.delete(EndpointKey(packed(address)))
        self._revisions.note_change()
        self.entries.pop(address, None)
        self.writes += 1

    def renew(self, address: int) -> None:
        """Have the flows of an address decided anew with their next packet."""
        self._revisions.renew(Prefix(address))
