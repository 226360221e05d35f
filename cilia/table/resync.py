"""Schedule of snapshot requests, without I/O: jitter against herds, backoff, few in flight."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cilia.backoff import Backoff
from cilia.table.shards import ResyncReason

MAX_IN_FLIGHT: Final = 8
"""Requests at once."""
CHUNK_SECONDS: Final = 3.0
"""Silence after which a request has failed: no chunk of its snapshot came for so long."""
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 5.0
SPREAD_SECONDS: Final = {ResyncReason.NEW: 0.0, ResyncReason.GAP: 0.2, ResyncReason.SUSPECT: 1.0}
"""Time over which first requests spread at random; a beacon or late delta may spare one."""
NEXT_BEACON_SECONDS: Final = 1.2
"""Time in which the next beacon comes, which clears most suspicions."""


@dataclass(slots=True)
class _Request:
    due: float
    backoff: Backoff
    deadline: float | None = field(default=None)
    """Time at which it has failed, while it is in flight."""


class ResyncSchedule:
    """Requests by shard. Times are seconds of one monotonic clock."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._requests: dict[str, _Request] = {}

    def choose(self, stale: Mapping[str, ResyncReason], now: float) -> list[str]:
        """Return the shards to request now, each in flight until ``stale`` lacks it or it fails."""
        for shard in [shard for shard in self._requests if shard not in stale]:
            del self._requests[shard]
        for shard, reason in stale.items():
            if shard not in self._requests:
                backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self._random.uniform)
                self._requests[shard] = _Request(now + self._delay(reason), backoff)
        for shard, request in self._requests.items():
            if request.deadline is not None and request.deadline <= now:
                self.fail(shard, now)
        free = self._free()
        chosen = [shard for shard, each in self._requests.items() if each.deadline is None and each.due <= now][:free]
        for shard in chosen:
            self._requests[shard].deadline = now + CHUNK_SECONDS
        return chosen

    def next_time(self) -> float | None:
        """Return when ``choose`` may next have something to do."""
        times = [request.deadline for request in self._requests.values() if request.deadline is not None]
        if self._free():
            times += [request.due for request in self._requests.values() if request.deadline is None]
        return min(times, default=None)

    def _free(self) -> int:
        return MAX_IN_FLIGHT - sum(request.deadline is not None for request in self._requests.values())

    def progress(self, shard: str, now: float) -> None:
        """Note that a chunk of the snapshot has come."""
        request = self._requests.get(shard)
        if request is not None and request.deadline is not None:
            request.deadline = now + CHUNK_SECONDS

    def fail(self, shard: str, now: float) -> None:
        """Note that a request had no answer that helped: repeat it, later each time."""
        request = self._requests.get(shard)
        if request is not None:
            request.deadline = None
            request.due = now + request.backoff.next_seconds()

    def _delay(self, reason: ResyncReason) -> float:
        base = NEXT_BEACON_SECONDS if reason is ResyncReason.SUSPECT else 0.0
        return base + self._random.uniform(0.0, SPREAD_SECONDS[reason])
