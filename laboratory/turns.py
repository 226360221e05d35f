"""Measurements in turns: within a round each subject has one, so that a slow moment of the machine
meets them all.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

S = TypeVar("S")


def take_turns(subjects: Mapping[str, Callable[[], S]], rounds: int) -> dict[str, list[S]]:
    """Measure each subject once a round; who begins changes from round to round.

    Return subject -> samples.
    """
    names = list(subjects)
    samples: dict[str, list[S]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(subjects[name]())
    return samples


def ratios(one: list[float], other: list[float]) -> list[float]:
    """Return the quotients of what was measured in the same round."""
    return [a / b for a, b in zip(one, other, strict=True)]
