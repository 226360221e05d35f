"""Measurements in turns: within a round each subject has one, so that a slow moment of the machine
meets them all.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

S = TypeVar("S")
QUIET_SECONDS: Final = 2.0
"""Pause between two lines of progress."""


class Turns:
    """Measurements of one run, which may be cut short.

    An interruption (^C) ends the rounds of what is being measured, if one is complete: its samples
    are returned, and whatever comes after them is not begun.

    Args:
        say: Takes a line about the progress.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)) -> None:
        self.interrupted = False
        self._say = say
        self._said_at = -QUIET_SECONDS

    def take(self, what: str, subjects: Mapping[str, Callable[[], S]], rounds: int) -> dict[str, list[S]]:
        """Measure each subject once a round; who begins changes from round to round.

        Args:
            what: Name of it all, for the progress.

        Returns:
            Subject -> samples.

        Raises:
            KeyboardInterrupt: The run was cut short before a round was complete.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        names = list(subjects)
        samples: dict[str, list[S]] = {name: [] for name in names}
        for number in range(rounds):
            self._tell(f"{what}: round {number + 1} of {rounds}")
            first = number % len(names)
            try:
                taken = {name: subjects[name]() for name in names[first:] + names[:first]}
            except KeyboardInterrupt:
                self.interrupted = True
                if not number:
                    raise
                break
            for name, sample in taken.items():
                samples[name].append(sample)
        return samples

    def _tell(self, line: str) -> None:
        now = time.monotonic()
        if now - self._said_at >= QUIET_SECONDS:
            self._said_at = now
            self._say(line)


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the quotients of what was measured in the same round."""
    return [a / b for a, b in zip(one, other, strict=True)]
