"""Limits that the figures keep, and what breaks them."""

from collections.abc import Iterable, Iterator
from typing import Final

from tools.figures.copies import LONGEST
from tools.figures.figures import Figures
from tools.figures.prose import COLUMNS
from tools.figures.sizes import percentile
from tools.figures.walks import PAGE

MEDIAN_FILE: Final = 120
"""Lines of the file in the middle: two screens, which one sitting keeps in mind."""
LARGE_FILE: Final = 350
"""Lines that 95 of 100 files don't exceed; models of this code have a few giants, and so may we."""
LARGE_SHARE: Final = 0.95
LONGEST_FUNCTION: Final = 60
"""Lines of the longest function: one screen."""
LEAST_RATIO: Final = 1.0
"""Test lines for each source line: what ships is reached by tests that are no smaller than it."""
LONGEST_WALK: Final = 15
"""Files through which anything passes: as many as before the rooms."""


def faults(figures: Figures) -> Iterator[str]:
    """Yield what breaks a limit, with its place where it has one."""
    yield from _sizes("files", figures.files.values())
    yield from _sizes("test files", figures.test_files.values())
    for each in figures.functions:
        if each.lines > LONGEST_FUNCTION:
            yield f"{each.path}:{each.line}: {each.name} has {each.lines} lines, more than {LONGEST_FUNCTION}"
    if figures.total.source and figures.total.ratio < LEAST_RATIO:
        yield f"test : source lines are {figures.total.ratio:.2f}, less than {LEAST_RATIO:g}"
    for copy in figures.copies:
        places = f"{copy.first}:{copy.first_line}: and {copy.second}:{copy.second_line}"
        yield f"{places} share {copy.lines} lines of code, more than {LONGEST}"
    for kind, place in figures.openings:
        yield f"{place.path}:{place.line}: this {kind} opens without its noun: {place.text[:60]}"
    for place in figures.wide:
        yield f"{place.path}:{place.line}: prose beyond column {COLUMNS}"
    for walk in figures.walks:
        if walk.length > LONGEST_WALK:
            yield f"{PAGE}: {walk.name!r} passes {walk.length} files, more than {LONGEST_WALK}"
    for place in figures.wrong_steps:
        yield f"{place.path}:{place.line}: {place.text}"
    for cycle in figures.cycles:
        yield f"modules import each other: {', '.join(cycle)}"


def _sizes(name: str, lines: Iterable[int]) -> Iterator[str]:
    values = list(lines)
    for share, most in ((0.5, MEDIAN_FILE), (LARGE_SHARE, LARGE_FILE)):
        if (found := percentile(values, share)) > most:
            yield f"{share:.0%} of the {name} have up to {found} lines, more than {most}"
