"""The maps of addresses as the agent writes them: who has which, and where; and what they hold by
now.

Pinned, so they outlive the agent; ``read_*`` gives back what a former one left. ``look_at_*`` and
``digest_ipcache`` are for an audit in another thread, and use descriptors of their own.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from cilia.abi import maps
from cilia.abi.enums import EndpointFlag, GatewayFamily, PolicyLimit
from cilia.abi.structs import Endpoint as EndpointValue
from cilia.abi.structs import EndpointKey, IpcacheEntry, IpcacheKey
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.errors import MapFull
from cilia.datapath.objects import LoadedObject
from services.agent.address import HOST_BITS, Prefix, is_ipv4, packed, unpacked
from services.agent.endpoint.store import Pod
from services.agent.ipcache.desired import Location

BATCH: Final = 4096
DIGESTS: Final = 1 << 64


class AddressMaps:
    """cilia_ipcache, cilia_endpoints, cilia_addresses and cilia_gateways."""

    def __init__(self, objects: LoadedObject) -> None:
        self._ipcache = objects.map(maps.IPCACHE)
        self._endpoints = objects.map(maps.ENDPOINTS)
        self._gateways = objects.map(maps.GATEWAYS)
        self._audited_ipcache, self._audited_endpoints = objects.map(maps.IPCACHE), objects.map(maps.ENDPOINTS)
        self._audited_gateways = objects.map(maps.GATEWAYS)
        with objects.map(maps.ADDRESSES) as addresses:
            self._addresses = ArrayMemory(addresses)
        self.located: dict[Prefix, Location] = {}
        """What cilia_ipcache holds, as far as we have read and written it."""
        self.entered: dict[int, EndpointValue] = {}
        """What cilia_endpoints holds, likewise, by address."""
        self.answered: dict[GatewayFamily, int] = {}
        """What of cilia_gateways we wrote: the gateway of a family."""
        self.digest = 0
        """Of cilia_ipcache, likewise."""
        self.writes = 0
        """Grows with each change by ourselves."""

    def close(self) -> None:
        """Give maps and memory back."""
        for each in (
            self._ipcache,
            self._endpoints,
            self._gateways,
            self._audited_ipcache,
            self._audited_endpoints,
            self._audited_gateways,
        ):
            each.close()
        self._addresses.close()

    def set_gateways(self, gateways: Iterable[int]) -> None:
        """Have the programs answer for what pods have as their gateway: an address of each family,
        or of one.
        """
        for gateway in gateways:
            family = GatewayFamily.IPV4 if is_ipv4(gateway) else GatewayFamily.IPV6
            self._gateways.update(family, packed(gateway))
            self.answered[family] = gateway
        self.writes += 1

    def read_ipcache(self) -> dict[Prefix, Location]:
        """Return the ipcache's entries that a former agent left, and go on from them."""
        self.adopt(self.look_at_ipcache())
        return dict(self.located)

    def adopt(self, located: dict[Prefix, Location]) -> None:
        """Take what is found in the ipcache for what it holds."""
        self.located = located
        self.digest = self._digest(located)

    def look_at_ipcache(self) -> dict[Prefix, Location]:
        """Return the ipcache's entries; from one thread at a time, and that may be another than the
        writer's.
        """
        return {
            Prefix(unpacked(key.address), key.prefixlen): Location(*value)
            for key, value in self._audited_ipcache.items()
        }

    def digest_ipcache(self) -> int:
        """Return the digest of the ipcache as it is; from the same thread."""
        return self._audited_ipcache.digest()

    def look_at_gateways(self) -> dict[GatewayFamily, int]:
        """Return what of cilia_gateways we wrote, as it is; from the same thread."""
        found = ((family, self._audited_gateways.lookup(family)) for family in tuple(self.answered))
        return {family: unpacked(value) for family, value in found if value is not None}

    def look_at_endpoints(self) -> dict[int, EndpointValue]:
        """Return cilia_endpoints by address; from the same thread."""
        return {unpacked(key.address): value for key, value in self._audited_endpoints.items()}

    def write_ipcache(self, changes: Mapping[Prefix, Location | None]) -> None:
        """Remove and write entries, then have the flows of their addresses decided anew.

        What goes makes room for what comes.

        Raises:
            MapFull: No room; what comes before is written, and in force for flows that stand.
        """
        upserts = {prefix: location for prefix, location in changes.items() if location is not None}
        removes = [prefix for prefix, location in changes.items() if location is None]
        self._ipcache.delete_many(map(_ipcache_key, removes))
        self._note({}, removes)
        written = 0
        try:
            written = self._ipcache.update_many(map(_ipcache_element, upserts.items()))
        except MapFull as full:
            written = full.done
            raise
        finally:
            self._note(dict(islice(upserts.items(), written)), ())
            for prefix in changes:
                self._addresses.add_each_u32(buckets_of(prefix))

    def _note(self, upserts: Mapping[Prefix, Location], removes: Iterable[Prefix]) -> None:
        gone = {prefix: self.located[prefix] for prefix in (*upserts, *removes) if prefix in self.located}
        self.digest = (self.digest + self._digest(upserts) - self._digest(gone)) % DIGESTS
        self.located.update(upserts)
        for prefix in removes:
            self.located.pop(prefix, None)
        self.writes += 1

    def _digest(self, located: Mapping[Prefix, Location]) -> int:
        return self._ipcache.digest_of(map(_ipcache_element, located.items()))

    def renew(self, address: int) -> None:
        """Have the flows of an address decided anew with their next packet."""
        self._addresses.add_u32(bucket_of(address))

    def renew_all(self) -> None:
        """Have all flows decided anew with their next packet."""
        self._addresses.add_each_u32(range(PolicyLimit.ADDRESS_BUCKETS))

    def read_endpoints(self) -> dict[int, EndpointValue]:
        """Return cilia_endpoints by address, and go on from it."""
        self.entered = self.look_at_endpoints()
        return dict(self.entered)

    def put_endpoint(self, pod: Pod, slot: int) -> None:
        """Make a pod known to the programs; slot 0: all of its packets are dropped."""
        mac = bytes.fromhex(pod.mac.replace(":", ""))
        flags = EndpointFlag.AUDIT if pod.audit else 0
        value = EndpointValue(pod.ifindex, pod.identity, pod.id, slot, mac, flags)
        for address in pod.numbers:
            self.put_entered(address, value)

    def put_entered(self, address: int, value: EndpointValue) -> None:
        """Write what the programs know of an address of a pod."""
        self._endpoints.update(EndpointKey(packed(address)), value)
        self.entered[address] = value
        self.writes += 1

    def remove_endpoint(self, address: int) -> None:
        """Make an address of a pod unknown to the programs."""
        self._endpoints.delete(EndpointKey(packed(address)))
        self.entered.pop(address, None)
        self.writes += 1


def buckets_of(prefix: Prefix) -> range:
    """Return the indexes of a prefix's addresses in cilia_addresses."""
    free = HOST_BITS - prefix.length
    if 1 << free >= PolicyLimit.ADDRESS_BUCKETS:
        return range(PolicyLimit.ADDRESS_BUCKETS)
    first = bucket_of(prefix.address)
    return range(first, first + (1 << free))


def bucket_of(address: int) -> int:
    """Return the index of an address in cilia_addresses, as bpf/lib computes it."""
    return address % PolicyLimit.ADDRESS_BUCKETS


def _ipcache_key(prefix: Prefix) -> IpcacheKey:
    return IpcacheKey(prefix.length, packed(prefix.address))


def _ipcache_element(entry: tuple[Prefix, Location]) -> tuple[IpcacheKey, IpcacheEntry]:
    prefix, location = entry
    return _ipcache_key(prefix), IpcacheEntry(location.identity, location.tunnel)
