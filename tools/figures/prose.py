"""Faults of prose: openings that lack their noun, and lines too wide to read."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from tools.figures.passages import Kind, Passage
from tools.tree import Source

COLUMNS: Final = 100
"""Columns that a line of prose may take; code has more."""
TAB: Final = 8
_OPENING: Final = re.compile(
    r"(?:From where|By which|What|Who|Whose|Of|Whether|How|Where|Which|When|Why)\b", re.IGNORECASE
)
_PREPOSITION: Final = re.compile(r"(?:Of|By|In|For|From|With|At|On|To|As|After|Before|Without|Behind|Under)\b")
_LINK: Final = re.compile(r"https?://\S+")


def lacks_noun(passage: Passage) -> bool:
    """Tell whether a passage opens with a word that only announces its noun.

    A note of one line lacks it behind any preposition, too: "For the overlay.".
    """
    if passage.kind is Kind.NOTE and passage.lines == 1 and _PREPOSITION.match(passage.text):
        return True
    return _OPENING.match(passage.text) is not None


def wide_lines(source: Source, found: Iterable[Passage]) -> Iterator[int]:
    """Yield the numbers of a file's lines that hold nothing but prose and are too wide.

    A line that is too wide for the sake of one link may stay.
    """
    lines = source.lines
    for passage in found:
        for number in range(passage.line, passage.line + passage.lines):
            line = lines[number - 1].expandtabs(TAB)
            if len(line) > COLUMNS and _is_prose(line, passage) and not _LINK.search(line):
                yield number


def _is_prose(line: str, passage: Passage) -> bool:
    return passage.kind is not Kind.COMMENT or line.lstrip().startswith(("#", "/*", "*", "//")) or passage.lines > 1
