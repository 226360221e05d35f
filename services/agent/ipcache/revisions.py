"""Revisions of addresses, cilia_addresses: flows of one that grows are decided anew."""

from cilia.abi import maps
from cilia.abi.enums import PolicyLimit
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.objects import LoadedObject
from services.agent.address import HOST_BITS, Prefix
from services.agent.change import ChangeWord


class AddressRevisions:
    """The map cilia_addresses: one counter for all addresses of a bucket."""

    def __init__(self, objects: LoadedObject) -> None:
        with objects.map(maps.ADDRESSES) as addresses:
            self._memory = ArrayMemory(addresses)
        self._change = ChangeWord(objects)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        self._change.close()

    def note_change(self) -> None:
        """Have what was denied decided anew; to be called after a change of an address's entry."""
        self._change.note()

    def renew(self, prefix: Prefix) -> None:
        """Have the flows of a prefix's addresses decided anew with their next packet."""
        with self._change.under_way():
            self._memory.add_each_u32(buckets_of(prefix))

    def renew_all(self) -> None:
        """Have all flows decided anew with their next packet."""
        with self._change.under_way():
            self._memory.add_each_u32(range(PolicyLimit.ADDRESS_BUCKETS))


def buckets_of(prefix: Prefix) -> range:
    """Return the buckets of a prefix's addresses, as bpf/lib computes them."""
    free = HOST_BITS - prefix.length
    if 1 << free >= PolicyLimit.ADDRESS_BUCKETS:
        return range(PolicyLimit.ADDRESS_BUCKETS)
    first = prefix.address % PolicyLimit.ADDRESS_BUCKETS
    return range(first, first + (1 << free))
