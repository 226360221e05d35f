"""Ports of masqueraded flows: those that connections of the node itself don't get, as the node's
settings have them at the moment, and cilia_nat_ports, which tells the programs.
"""

from pathlib import Path
from typing import Final

from cilia.abi import maps
from cilia.abi.structs import NatPorts
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.objects import LoadedObject

FIRST_PORT, LAST_SERVICE_PORT, LAST_PORT = 1024, 29_999, 65_535
LOCAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def local_ports() -> tuple[int, int]:
    """Return the first and last port that the node's own connections take."""
    first, last = LOCAL_PORTS.read_text().split()
    return int(first), int(last)


def masquerade_ports(first_local: int, last_local: int) -> tuple[int, int]:
    """Return the first and last port for masqueraded flows: the greater part of what the node
    itself leaves over.

    Privileged ports, and those above 30,000 where services get theirs (NodePort), are left out
    below the node's. Where the node leaves nothing over, they share: a port that a socket of the
    node has is taken by no flow in any case.
    """
    below = FIRST_PORT, min(first_local - 1, LAST_SERVICE_PORT)
    above = last_local + 1, LAST_PORT
    first, last = max(below, above, key=lambda ports: ports[1] - ports[0])
    return (first, last) if first <= last else (FIRST_PORT, LAST_PORT)


class NatPortsWord:
    """The word in cilia_nat_ports; the map is pinned, and outlives the agent."""

    def __init__(self, objects: LoadedObject) -> None:
        with objects.map(maps.NAT_PORTS) as ports:
            self._memory = ArrayMemory(ports)

    def close(self) -> None:
        """Give the map back."""
        self._memory.close()

    def follow(self, first: int, last: int) -> bool:
        """Have new mappings take the ports from ``first`` to ``last``; tells whether that is a
        change.

        Mappings keep what they have from earlier, and the programs go on looking there.
        """
        present = NatPorts.unpack(self._memory.load_u64(0).to_bytes(8, "little"))
        wanted = NatPorts(first, last, min(present.lowest or first, first), max(present.highest, last))
        if wanted != present:
            self._memory.store_u64(0, int.from_bytes(wanted.pack(), "little"))
        return wanted != present
