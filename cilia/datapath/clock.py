"""Clocks of the programs: that of events, bpf_ktime_get_ns(), is CLOCK_MONOTONIC, which knows no
date; that of idle times is the kernel's jiffies, which only a program can read.
"""

import time
from dataclasses import dataclass
from typing import Final, Self

from cilia.datapath.programs import Program

CLOCK_MONOTONIC_COARSE: Final = 6
"""Clock of <time.h> that ``time`` has no name for; it steps once a jiffy."""
TICKS_PER_SECOND: Final = round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))
"""The kernel's CONFIG_HZ, and so the rate of the coarse clock (bpf/lib/clock.h).

CLK_TCK, of ``sysconf``, is 100 whatever it is.
"""
TICKS_WRAP: Final = 1 << 32
"""The coarse clock is read modulo this."""
FRAME: Final = bytes(64)
"""A frame for a program that reads none of it."""


def ktime_ns() -> int:
    """Return the present value of bpf_ktime_get_ns()."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class CoarseClock:
    """The coarse clock of the programs, read by one of them."""

    program: Program
    """``read_clock`` of bpf/cilia.c."""

    def now(self) -> int:
        """Return the present time in ticks, modulo TICKS_WRAP."""
        return self.program.test_run(FRAME).retval


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
