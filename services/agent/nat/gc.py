"""Garbage collection of NAT: mappings whose flow is forgotten, and halves without the other half.

A mapping is two entries of cilia_nat, one for what the pod sends and one for what comes back
(bpf/maps/nat.h). What is found unused goes only if the next sweep finds it so again: the programs
enter a mapping half by half, and the port of an ended flow should rest while the remote end may
still remember it (TIME_WAIT, a minute). A port that is needed sooner the programs take themselves.

An echo of the node itself has one entry, which goes once it has idled.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from cilia.abi import maps
from cilia.abi.structs import Ct4Key, Ct6Key, CtEntry, NatEntry, NatKey, NatTurn
from cilia.datapath.clock import TICKS_PER_SECOND, TICKS_WRAP
from cilia.datapath.errors import MapError
from cilia.datapath.maps import Map
from cilia.datapath.objects import LoadedObject
from cilia.metrics import counter
from services.agent.address import MAPPED, packed, unpacked

log = logging.getLogger(__name__)

STEP: Final = 128
IPV4_MASK: Final = 0xFFFF_FFFF
ICMP: Final = (1, 58)
ECHO_ID_ZERO: Final = 0xFFFF
NODE_ECHO_SECONDS: Final = 60
"""Time for which an identifier that the node uses is kept for it."""


def flow_of(key: NatKey) -> Ct4Key | Ct6Key:
    """Return the flow of what a pod sends: the lower end first (bpf/lib/conntrack.h)."""
    ends = (unpacked(key.local), _flow_port(key)), (unpacked(key.remote), key.remote_port)
    (low, low_port), (high, high_port) = sorted(ends)
    if low >> 32 == high >> 32 == MAPPED >> 32:
        return Ct4Key((low & IPV4_MASK, high & IPV4_MASK), (low_port, high_port), key.protocol)
    return Ct6Key((packed(low), packed(high)), (low_port, high_port), key.protocol)


def _flow_port(key: NatKey) -> int:
    """Return the pod's port, or the identifier of its echo, in which 0 stands as 65535."""
    return key.local_port or (ECHO_ID_ZERO if key.protocol in ICMP else 0)


def other_half(key: NatKey, entry: NatEntry) -> NatKey:
    """Return the key of the other entry of a mapping."""
    return key._replace(local=entry.address, local_port=entry.port, is_reply=1 - key.is_reply)


@dataclass(slots=True)
class NatGcCounters:
    """Counters of the sweeps."""

    removed: int = counter("entries of cilia_nat removed since their flow or their other half is gone")


class NatGc:
    """Sweeps cilia_nat. ``run`` goes to the supervisor."""

    def __init__(self, objects: LoadedObject, sweep_seconds: float, clock_ticks: Callable[[], int]) -> None:
        self._map: Map[NatKey, NatEntry] = objects.map(maps.NAT)
        self._turns: Map[NatTurn, NatKey] = objects.map(maps.NAT_TURNS)
        self._flows4: Map[Ct4Key, CtEntry] = objects.map(maps.CT4)
        self._flows6: Map[Ct6Key, CtEntry] = objects.map(maps.CT6)
        self._sweep_seconds = sweep_seconds
        self._clock_ticks = clock_ticks
        self._unused: set[NatKey] = set()
        """Entries that the latest sweep found without their flow or their other half."""
        self.entries = 0
        """Entries found by the latest sweep."""
        self.mappings = 0
        """Mappings that are charged to an endpoint, found by it; each has a turn."""
        self.counters = NatGcCounters()

    def close(self) -> None:
        """Give the maps back."""
        for each in (self._map, self._turns, self._flows4, self._flows6):
            each.close()

    async def run(self) -> None:
        """Sweep now and then until cancelled."""
        while True:
            await asyncio.sleep(self._sweep_seconds)
            try:
                await self.sweep()
            except MapError as error:
                log.warning("the sweep of NAT mappings ended early: %s", error)

    async def sweep(self) -> None:
        """Look at every entry once, in small steps."""
        found, charged, unused = 0, 0, set[NatKey]()
        for keys, values in self._map.batches(STEP):
            now = self._clock_ticks()
            entries = list(zip(NatKey.unpack_each(keys), NatEntry.unpack_each(values), strict=True))
            found += len(entries)
            charged += sum(1 for key, entry in entries if entry.endpoint and not key.is_reply)
            dead = {
                gone: entry
                for key, entry in entries
                for gone in (self._dead_echo(key, entry, now) if entry.is_node else self._dead(key, entry, unused))
            }
            if dead:
                self._turns.delete_many(NatTurn(each.number, each.endpoint) for each in dead.values() if each.endpoint)
                self.counters.removed += self._map.delete_many(dead)
            await asyncio.sleep(0)
        self._unused, self.entries, self.mappings = unused, found, charged

    @staticmethod
    def _dead_echo(key: NatKey, entry: NatEntry, now: int) -> Iterator[NatKey]:
        """Yield the key of an echo of the node if it has idled too long."""
        idle = (now - entry.checked) % TICKS_WRAP
        if NODE_ECHO_SECONDS * TICKS_PER_SECOND < idle <= TICKS_WRAP // 2:
            yield key

    def _dead(self, key: NatKey, entry: NatEntry, unused: set[NatKey]) -> Iterator[NatKey]:
        """Yield what goes with an entry; one that is unused for the first time is noted."""
        other = other_half(key, entry)
        beside = self._map.lookup(other)
        is_whole = beside is not None and (beside.address, beside.port) == (key.local, key.local_port)
        if is_whole and (key.is_reply or self._is_known(key)):
            return
        if key not in self._unused:
            unused.add(key)
            return
        yield key
        if is_whole:
            yield other

    def _is_known(self, key: NatKey) -> bool:
        flow = flow_of(key)
        found = self._flows4.lookup(flow) if isinstance(flow, Ct4Key) else self._flows6.lookup(flow)
        return found is not None
