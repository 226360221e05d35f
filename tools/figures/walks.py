"""Walks: tables of CONTRIBUTING.md that tell through which files something passes."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

PAGE: Final = "CONTRIBUTING.md"
_TITLE: Final = re.compile(r"### (.+)")
_ROW: Final = re.compile(r"\| (\d+) \| (.+?) \|")
_PATH: Final = re.compile(r"`([\w./]+/[\w.]+\.(?:py|c|h))`")


@dataclass(frozen=True, slots=True)
class Step:
    """A row of a walk, or a line beside it, which has no number."""

    line: int
    number: int | None
    files: tuple[str, ...]
    """Files where it passes; a row has alternatives."""
    helpers: tuple[str, ...]
    """Files that these call."""


@dataclass(frozen=True, slots=True)
class Walk:
    """One way, from its title to the next."""

    name: str
    steps: tuple[Step, ...]

    @property
    def length(self) -> int:
        """Number of its rows."""
        return sum(step.number is not None for step in self.steps)


def walks(page: str) -> list[Walk]:
    """Return the walks of a page: its sections that number files."""
    found: list[tuple[str, list[Step]]] = []
    for number, line in enumerate(page.splitlines(), 1):
        if title := _TITLE.match(line):
            found.append((title[1], []))
        elif line.startswith("## "):
            found.append(("", []))
        elif found and _PATH.search(line):
            found[-1][1].append(_step(number, line))
    whole = [Walk(name, tuple(steps)) for name, steps in found]
    return [walk for walk in whole if walk.length]


def wrong_steps(walk: Walk, exists: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """Yield line and fault of files that aren't there or are met twice, and of wrong numbers."""
    seen: set[str] = set()
    at = 0
    for step in walk.steps:
        for path in (*step.files, *step.helpers):
            if not exists(path):
                yield step.line, f"there is no {path}"
        if step.number is None:
            continue
        at += 1
        if step.number != at:
            yield step.line, f"step {step.number} should be {at}"
        for path in step.files:
            if path in seen:
                yield step.line, f"{path} is passed twice"
        seen.update(step.files)


def _step(number: int, line: str) -> Step:
    row = _ROW.match(line)
    if row is None:
        return Step(number, None, (), tuple(_PATH.findall(line)))
    return Step(number, int(row[1]), tuple(_PATH.findall(row[2])), tuple(_PATH.findall(line[row.end() :])))
