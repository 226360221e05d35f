"""Map of the pods' gateways, cilia_gateways: the programs answer ARP and NDP for them."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from cilia.abi import maps
from cilia.abi.enums import GatewayFamily
from cilia.datapath.objects import LoadedObject
from services.agent.address import is_ipv4, packed, text, unpacked
from services.agent.drift.loop import differences, read_undisturbed
from services.agent.drift.reporter import Drift


class GatewayMap:
    """The map cilia_gateways: the gateway of each family.

    ``read`` is for one thread at a time, which may be another than the writer's: it uses a
    descriptor of its own.
    """

    def __init__(self, objects: LoadedObject) -> None:
        self._map, self._read_map = objects.map(maps.GATEWAYS), objects.map(maps.GATEWAYS)
        self._entries: dict[GatewayFamily, int] = {}
        self._writes = 0

    def close(self) -> None:
        """Give the map back."""
        self._map.close()
        self._read_map.close()

    def write(self, gateways: Iterable[int]) -> None:
        """Have the programs answer for gateways of pods: an address of each family, or of one."""
        for gateway in gateways:
            family = GatewayFamily.IPV4 if is_ipv4(gateway) else GatewayFamily.IPV6
            self._map.update(family, packed(gateway))
            self._entries[family] = gateway
        self._writes += 1

    def read(self) -> dict[GatewayFamily, int]:
        """Return the gateways in the kernel, of the families that we wrote."""
        found = ((family, self._read_map.lookup(family)) for family in tuple(self._entries))
        return {family: unpacked(value) for family, value in found if value is not None}

    async def look(self, in_thread: Callable[..., Awaitable[Any]]) -> list[Drift]:
        """Compare once with what was written, mend, and return what was wrong."""
        found = await read_undisturbed(lambda: in_thread(self.read), lambda: self._writes)
        wrong = {} if found is None else differences(found, self._entries)
        if wrong:
            self.write([written for _, written in wrong.values() if written is not None])
        described = (f"{text(present or 0)} was there, not {text(written or 0)}" for present, written in wrong.values())
        return [Drift("gateways", tuple(described))]
