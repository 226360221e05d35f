"""Screen of the demo: its text, and the figures that the summary shows."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import zip_longest

Figures = dict[str, str]
"""Figure by what was measured, as text with its unit."""

_CODES = re.compile(r"\x1b\[[0-9;]*m")


class Style(StrEnum):
    """Style of a text, by its ANSI code."""

    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    TITLE = "1;36"


def styled(style: Style, text: str) -> str:
    """Return a text in a style; plain where stdout is no terminal, or ``$NO_COLOR`` is set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{style}m{text}\x1b[0m"


def align(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines of columns, as wide as their widest text; styles have no width."""
    table = [list(row) for row in rows]
    widths = [max(map(_width, column)) for column in zip_longest(*table, fillvalue="")]
    lines = ("  ".join(_pad(text, width) for text, width in zip(row, widths, strict=False)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def _width(text: str) -> int:
    return len(_CODES.sub("", text))


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def say(text: str = "") -> None:
    """Print a text at once."""
    print(text, flush=True)


def print_title(text: str) -> None:
    """Print the title of a step."""
    say(styled(Style.TITLE, text))


def print_figures(figures: Figures) -> None:
    """Print what was measured."""
    print_title("Measured in this run")
    say(align((name, styled(Style.BOLD, figure)) for name, figure in figures.items()) + "\n")
