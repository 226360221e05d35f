"""Clock of events: bpf_ktime_get_ns() is CLOCK_MONOTONIC, which knows no date."""

import time
from dataclasses import dataclass
from typing import Final, Self

from cilia.abi.enums import CtClock

TICKS_PER_SECOND: Final = 1_000_000_000 / (1 << CtClock.TICK_SHIFT)
"""Units of the idle times that the programs count."""


def ktime_ns() -> int:
    """Return the present value of bpf_ktime_get_ns()."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class UnixClock:
    """Turns ktime into Unix time.

    Take a new one now and then: steps of the wall clock change the distance.
    """

    offset_ns: int
    """Unix time minus ktime."""

    @classmethod
    def now(cls) -> Self:
        """Measure the distance; the middle of two readings halves the error of an interruption."""
        before = ktime_ns()
        unix = time.time_ns()
        return cls(unix - (before + ktime_ns()) // 2)

    def unix_ns(self, ktime: int) -> int:
        return ktime + self.offset_ns
