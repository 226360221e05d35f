"""Quotas of flows: what each endpoint holds, as the programs count it and the sweeps find it.

The programs count what they create (bpf/maps/quota.h). A sweep finds what was there when it began,
and what it removes; so what is held is known anew at the end of each, whatever went wrong before.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from cilia.abi import maps
from cilia.abi.codec import MapLayout
from cilia.abi.enums import FlowShareLimit
from cilia.abi.offsets import FlowAccountOffset, FlowShareOffset
from cilia.abi.structs import CtEntry, FlowShare
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.clock import TICKS_PER_SECOND
from cilia.datapath.objects import LoadedObject

FAMILIES: Final[tuple[MapLayout[Any, CtEntry], ...]] = (maps.CT4, maps.CT6)
WORD_BYTES: Final = 4
WRAP: Final = 1 << 32
WHOLE: Final = 256
"""``share`` counts parts of it."""
HELD_BACK: Final = 128
"""Entries that each CPU may hold back from the others (LOCAL_FREE_TARGET in
kernel/bpf/bpf_lru_list.c).
"""
LEASE_SWEEPS: Final = 4
"""Sweeps that may be missing before the programs take the agent to be away."""


def share_of(entry: CtEntry, family: int) -> int:
    """Return the index of what a flow is charged to."""
    return entry.endpoint % FlowShareLimit.ENDPOINTS * 4 + entry.is_outgoing * 2 + family


def endpoint_of(share: int) -> int:
    """Return the id of an endpoint, modulo FLOW_SHARE_ENDPOINTS."""
    return share // 4


@dataclass(slots=True)
class SweepTally:
    """Flows that one sweep found and removed, by share.

    Attributes:
        number: The sweep's; flows that were created since it began have it.
        created: What the programs had created when it began.
    """

    number: int
    created: dict[int, int]
    totals: tuple[int, int]
    found: Counter[int] = field(default_factory=Counter)
    removed: Counter[int] = field(default_factory=Counter)

    def note(self, share: int, entry: CtEntry, *, is_dead: bool) -> None:
        """Count a flow."""
        if entry.born != self.number:
            self.found[share] += 1
        if is_dead:
            self.removed[share] += 1


class FlowQuota:
    """The maps cilia_flow_shares and cilia_flow_account."""

    def __init__(self, objects: LoadedObject, *, share: float, sweep_seconds: float) -> None:
        """Set the limits.

        Args:
            share: Part of the free entries that one endpoint may hold, 0..1.
        """
        self._table = objects.map(maps.FLOW_SHARES)
        with objects.map(maps.FLOW_ACCOUNT) as account:
            self._account = ArrayMemory(account)
        self._shares = ArrayMemory(self._table)
        self._part = max(1, round(share * WHOLE))
        self._capacity = [0, 0]
        for family, layout in enumerate(FAMILIES):
            with objects.map(layout) as table:
                entries = table.info.max_entries
            self._capacity[family] = entries - min(HELD_BACK * (os.cpu_count() or 1), entries // 8)
            self._store(FlowAccountOffset.CAPACITY, self._capacity[family], family)
        self._store(FlowAccountOffset.SHARE, self._part)
        self._store(FlowAccountOffset.LEASE, int(LEASE_SWEEPS * (sweep_seconds + 1) * TICKS_PER_SECOND))
        self.crowded: frozenset[int] = frozenset()
        """Shares that were taken, or nearly so, when the latest sweep ended."""

    def close(self) -> None:
        """Give maps and memory back."""
        self._table.close()
        self._account.close()
        self._shares.close()

    def begin(self) -> SweepTally:
        """Begin a sweep."""
        number = self._load(FlowAccountOffset.SWEEP) + 1
        self._store(FlowAccountOffset.SWEEP, number % WRAP)
        totals = self._load(FlowAccountOffset.CREATED), self._load(FlowAccountOffset.CREATED, 1)
        created: dict[int, int] = {}
        index = 0
        for _, values in self._table.batches():
            for share in FlowShare.unpack_each(values):
                if share.created or share.removed:
                    created[index] = share.created
                index += 1
        return SweepTally(number % WRAP, created, totals)

    def end(self, tally: SweepTally, now_ticks: int) -> None:
        """Tell the programs what a sweep has found: all that is held but what they create since."""
        for share in tally.created.keys() | tally.found.keys() | tally.removed.keys():
            removed = tally.created.get(share, 0) - tally.found[share] + tally.removed[share]
            self._shares.store_u32(share, removed % WRAP, FlowShareOffset.REMOVED)
        for family, created in enumerate(tally.totals):
            found, removed = (
                sum(count for share, count in counts.items() if share % 2 == family)
                for counts in (tally.found, tally.removed)
            )
            self._store(FlowAccountOffset.REMOVED, (created - found + removed) % WRAP, family)
        self._store(FlowAccountOffset.LAST_SWEPT, now_ticks)
        self.crowded = frozenset(share for share in tally.found if self._is_crowded(share))

    def held(self, share: int) -> int:
        """Return the flows that are charged to a share."""
        created = self._shares.load_u32(share, FlowShareOffset.CREATED)
        return (created - self._shares.load_u32(share, FlowShareOffset.REMOVED)) % WRAP

    def limit(self, family: int) -> int:
        """Return the flows of a family that one share may hold now."""
        held = self._load(FlowAccountOffset.CREATED, family) - self._load(FlowAccountOffset.REMOVED, family)
        return max(0, self._capacity[family] - held % WRAP) * self._part // WHOLE

    def _is_crowded(self, share: int) -> bool:
        return self.held(share) * 8 >= self.limit(share % 2) * 7

    def _load(self, member: FlowAccountOffset, family: int = 0) -> int:
        return self._account.load_u32(0, member + WORD_BYTES * family)

    def _store(self, member: FlowAccountOffset, value: int, family: int = 0) -> None:
        self._account.store_u32(0, value, member + WORD_BYTES * family)
