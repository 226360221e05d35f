"""Backoff: pauses between attempts that grow while they fail, with jitter against herds."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

GROWTH: Final = 2.0
LEAST_PART: Final = 0.5
"""A pause is a random part of its full length, at least this much of it."""


class Backoff:
    """Pauses that double from attempt to attempt, up to a longest one.

    Args:
        first_seconds: Full length of the first pause.
        longest_seconds: Full length that no pause exceeds.
        uniform: Randomness; gives a number between its two arguments.
    """

    def __init__(
        self,
        first_seconds: float,
        longest_seconds: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._uniform = uniform
        self.failures = 0
        """Attempts that failed since the last success."""

    def next_seconds(self) -> float:
        """Return how long to pause after another failure."""
        full = min(self._longest, self._first * GROWTH ** min(self.failures, 64))
        self.failures += 1
        return full * self._uniform(LEAST_PART, 1.0)

    def reset(self) -> None:
        """Begin with the first pause again: an attempt succeeded."""
        self.failures = 0

    async def pause(self) -> None:
        """Sleep after another failure."""
        await asyncio.sleep(self.next_seconds())
