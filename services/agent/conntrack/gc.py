"""Garbage collection of conntrack: flows that idled too long, and flows of pods that are gone.

The programs create and refresh entries; this loop sweeps the tables in small steps, so that neither
the event loop nor a CPU is held for long. Lifetimes are the peer's (pkg/maps/ctmap).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic

from cilia.abi import maps
from cilia.abi.codec import Buffer, K
from cilia.abi.enums import CtState, TcpFlag
from cilia.abi.structs import Ct4Key, Ct6Key, CtEntry
from cilia.datapath.clock import TICKS_PER_SECOND, TICKS_WRAP
from cilia.datapath.errors import MapError
from cilia.datapath.maps import Map
from cilia.datapath.objects import LoadedObject
from cilia.metrics import counter
from cilia.notify import Wakeup
from services.agent.address import MAPPED, unpacked
from services.agent.config import TimeoutConfig
from services.agent.conntrack.quota import FlowQuota, SweepTally, endpoint_of, share_of

log = logging.getLogger(__name__)

STEP: Final = 256
GATHER_SECONDS: Final = 1.0
"""Pods that go together share a sweep."""
CROWDED_PAUSE_SECONDS: Final = 2.0
"""Longest pause between sweeps while an endpoint holds its share."""
TCP: Final = 6


class Space(Enum):
    """Space that flows that idle have."""

    AMPLE = "ample"
    """Less than half of the table is taken."""
    SCARCE = "scarce"
    CROWDED = "crowded"
    """The flow's endpoint holds its share."""


def is_answered(protocol: int, entry: CtEntry) -> bool:
    """Tell whether both ends have said that they talk to each other."""
    one, other = entry.side
    return bool(one.tcp_flags & other.tcp_flags & TcpFlag.ACK if protocol == TCP else one.packets and other.packets)


def lifetime_seconds(protocol: int, entry: CtEntry, timeouts: TimeoutConfig, space: Space = Space.SCARCE) -> int:
    """Return for how long a flow may idle. One that is denied is remembered for as long as its ends
    may go on trying, of whatever protocol.
    """
    if protocol == TCP and (entry.state & CtState.RESET or entry.state & CtState.ENDED == CtState.ENDED):
        return timeouts.closing_seconds
    if entry.state & CtState.DENIED:
        return timeouts.tcp_seconds
    is_open = is_answered(protocol, entry)
    if space is Space.CROWDED and not is_open:
        return timeouts.crowded_seconds
    if protocol != TCP:
        return timeouts.other_seconds
    if not is_open:
        return timeouts.syn_seconds
    return timeouts.tcp_seconds if space is not Space.AMPLE else max(timeouts.tcp_seconds, timeouts.tcp_ample_seconds)


def is_expired(
    protocol: int, entry: CtEntry, now_ticks: int, timeouts: TimeoutConfig, space: Space = Space.SCARCE
) -> bool:
    """Tell whether a flow has idled too long; ``now_ticks`` counts as ``last_seen`` does."""
    idle = (now_ticks - entry.last_seen) % TICKS_WRAP
    if idle > TICKS_WRAP // 2:  # a program on another CPU was ahead of our clock
        return False
    return idle > lifetime_seconds(protocol, entry, timeouts, space) * TICKS_PER_SECOND


@dataclass(slots=True)
class ConntrackCounters:
    """Counters of the sweeps."""

    sweeps: int = counter("sweeps of the table of flows")
    removed: int = counter("flows forgotten since they idled too long or their pod is gone")


@dataclass(frozen=True, slots=True)
class FlowTable(Generic[K]):
    """Flows of one family, and functions that read their keys."""

    map: Map[K, CtEntry]
    keys: Callable[[Buffer], Iterable[K]]
    addresses: Callable[[K], Iterable[int]]
    family: int
    """0: IPv4, 1: IPv6."""


class Conntrack:
    """Sweeps cilia_ct4 and cilia_ct6. ``run`` goes to the supervisor."""

    def __init__(
        self,
        objects: LoadedObject,
        quota: FlowQuota,
        timeouts: TimeoutConfig,
        sweep_seconds: float,
        clock_ticks: Callable[[], int],
    ) -> None:
        self._tables = (
            FlowTable(objects.map(maps.CT4), Ct4Key.unpack_each, lambda key: map(MAPPED.__or__, key.address), 0),
            FlowTable(objects.map(maps.CT6), Ct6Key.unpack_each, lambda key: map(unpacked, key.address), 1),
        )
        self._quota = quota
        self._timeouts = timeouts
        self._sweep_seconds = sweep_seconds
        self._clock_ticks = clock_ticks
        self._gone: set[int] = set()
        self._wakeup = Wakeup()
        self._wakeup.set()  # quotas hold from the first sweep on
        self.found = dict.fromkeys((table.map.name for table in self._tables), 0)
        """Map -> flows found by the latest sweep."""
        self.counters = ConntrackCounters()

    @property
    def flows(self) -> int:
        """Flows found by the latest sweep."""
        return sum(self.found.values())

    def close(self) -> None:
        """Give the maps back."""
        for table in self._tables:
            table.map.close()

    def purge(self, address: int) -> None:
        """Forget the flows of an address, soon."""
        self._gone.add(address)
        self._wakeup.set()

    async def run(self) -> None:
        """Sweep now and then, soon after a pod has gone, and often while an endpoint holds its
        share, until cancelled.
        """
        while True:
            await self._wakeup.wait(
                min(self._sweep_seconds, CROWDED_PAUSE_SECONDS) if self._quota.crowded else self._sweep_seconds
            )
            await asyncio.sleep(GATHER_SECONDS)
            await self._wakeup.wait(0.0)  # pods that went meanwhile are in this sweep
            try:
                await self.sweep()
            except MapError as error:
                log.warning("the sweep of flows ended early: %s", error)

    async def sweep(self) -> None:
        """Look at every flow once, in small steps.

        Raises:
            MapError: The kernel refused a read; pods that are gone are left to the next sweep.
        """
        gone, self._gone = self._gone, set()
        try:
            tally = self._quota.begin()
            for table in self._tables:
                self.found[table.map.name] = await self._sweep_one(table, gone, tally)
        except MapError:
            self._gone |= gone
            raise
        before = self._quota.crowded
        self._quota.end(tally, self._clock_ticks())
        for endpoint in sorted({endpoint_of(share) for share in self._quota.crowded - before}):
            log.warning("endpoint %d holds its share of the flows: it gets new ones only as others end", endpoint)
        self.counters.sweeps += 1

    async def _sweep_one(self, table: FlowTable[Any], gone: set[int], tally: SweepTally) -> int:
        found, crowded = 0, self._quota.crowded
        is_ample = 2 * self.found[table.map.name] < table.map.info.max_entries
        usual = Space.AMPLE if is_ample else Space.SCARCE
        for keys, values in table.map.batches(STEP):
            now = self._clock_ticks()
            dead = []
            for key, entry in zip(table.keys(keys), CtEntry.unpack_each(values), strict=True):
                share = share_of(entry, table.family)
                is_dead = bool(gone and not gone.isdisjoint(table.addresses(key))) or is_expired(
                    key.protocol, entry, now, self._timeouts, Space.CROWDED if share in crowded else usual
                )
                tally.note(share, entry, is_dead=is_dead)
                if is_dead:
                    dead.append(key)
            found += len(keys) // table.map.layout.key.size
            if dead:
                self.counters.removed += table.map.delete_many(dead)
            await asyncio.sleep(0)
        return found
