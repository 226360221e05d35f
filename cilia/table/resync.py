"""When to ask for which snapshot, without I/O: jitter against herds, backoff, few requests under
way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cilia.table.shards import Need

UNDER_WAY: Final = 8
"""Requests at once."""
ANSWER_SECONDS: Final = 3.0
"""Without any part of the answer for so long, the request has failed."""
LONGEST_PAUSE_SECONDS: Final = 5.0
SPREAD_SECONDS: Final = {Need.NEW: 0.0, Need.GAP: 0.2, Need.UNSURE: 1.0}
"""A need is asked for after a random part of this. A beacon or a late delta may settle it before.
"""
HEARD_SOON_SECONDS: Final = 1.2
"""After a doubt, the beacon of the next second comes first."""


@dataclass(slots=True)
class _State:
    due: float
    failures: int = 0
    deadline: float | None = field(default=None)
    """While a request is under way."""


class ResyncSchedule:
    """State of the requests, by shard. Times are seconds of one monotonic clock."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._states: dict[str, _State] = {}

    def choose(self, needs: Mapping[str, Need], now: float) -> list[str]:
        """Return what to ask for now; each counts as under way until it is answered, failed or too
        late.
        """
        for shard in [shard for shard in self._states if shard not in needs]:
            del self._states[shard]
        for shard, need in needs.items():
            if shard not in self._states:
                self._states[shard] = _State(now + self._delay(need))
        for shard, state in self._states.items():
            if state.deadline is not None and state.deadline <= now:
                self.fail(shard, now)
        free = self._free()
        chosen = [shard for shard, each in self._states.items() if each.deadline is None and each.due <= now][:free]
        for shard in chosen:
            self._states[shard].deadline = now + ANSWER_SECONDS
        return chosen

    def next_time(self) -> float | None:
        """Return when ``choose`` may next have something to do."""
        times = [state.deadline for state in self._states.values() if state.deadline is not None]
        if self._free():
            times += [state.due for state in self._states.values() if state.deadline is None]
        return min(times, default=None)

    def _free(self) -> int:
        return UNDER_WAY - sum(state.deadline is not None for state in self._states.values())

    def progress(self, shard: str, now: float) -> None:
        """Note that a part of the answer has come."""
        state = self._states.get(shard)
        if state is not None and state.deadline is not None:
            state.deadline = now + ANSWER_SECONDS

    def fail(self, shard: str, now: float) -> None:
        """Note that a request got no answer, or one that did not help: ask again, later each time."""
        state = self._states.get(shard)
        if state is not None:
            pause = min(LONGEST_PAUSE_SECONDS, 0.05 * 2 ** min(state.failures, 10))
            state.failures += 1
            state.deadline = None
            state.due = now + pause * self._random.uniform(0.5, 1.0)

    def _delay(self, need: Need) -> float:
        base = HEARD_SOON_SECONDS if need is Need.UNSURE else 0.0
        return base + self._random.uniform(0.0, SPREAD_SECONDS[need])
