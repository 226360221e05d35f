"""Schedule of a table's beacons, without I/O.

Regular beacons reach back over the last few of them, so that who missed some still learns of every
change; those that follow a batch reach back to the beacon before only.
"""

from collections import deque
from typing import Final

BEACON_SECONDS: Final = 1.0
BEACON_GAP_SECONDS: Final = 0.1
"""Least distance of beacons that follow batches."""
BEACON_WINDOW: Final = 10
"""Regular beacons over which one reaches back."""


class BeaconSchedule:
    """Sequences of the last beacons, and the time of the next regular one."""

    def __init__(self) -> None:
        self._marks: deque[int] = deque(maxlen=BEACON_WINDOW)  # sequences at the regular beacons
        self._regular_at = 0.0
        self._last = 0

    def window(self, log_start: int) -> int:
        """Return the sequence that a regular beacon reaches back to."""
        return self._marks[0] if self._marks else log_start

    def seconds_left(self, now: float) -> float:
        """Return the time until the next regular beacon is due."""
        return max(0.0, self._regular_at - now)

    def is_regular(self, now: float, *, asked_for: bool) -> bool:
        """Tell whether the beacon that is sent now is a regular one."""
        return not asked_for or now >= self._regular_at

    def begin_interval(self, now: float, sequence: int, log_start: int) -> int:
        """Begin a regular beacon's interval at ``sequence``; return what it reaches back to."""
        self._regular_at = now + BEACON_SECONDS
        since = self.window(log_start)
        self._marks.append(sequence)
        return since

    def since_last(self, sequence: int) -> int:
        """Note a beacon at ``sequence``; return the sequence of the one before."""
        before, self._last = self._last, sequence
        return before
