"""Pairs of copies: runs of equal lines, wherever they stand."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tools.figures.passages import Kind, passages
from tools.tree import Source, parse

LONGEST: Final = 10
"""Lines of code that may be equal in a row; more are a piece that wants a name."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One pair of equal runs."""

    first: str
    first_line: int
    second: str
    second_line: int
    lines: int
    """Lines of code that are equal, without blanks, comments and imports."""


Line = tuple[int, str]
"""Number in the file, and text without indentation."""


def code_lines(source: Source) -> list[Line]:
    """Return a file's lines without blanks, comments, docstrings of modules and imports."""
    left_out: set[int] = set()
    remark = "#" if source.is_python else "#include"
    if source.is_python:
        for node in ast.walk(parse(source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for passage in passages(source):
        alone = source.is_c and source.lines[passage.line - 1].lstrip().startswith(("/*", "//"))
        if alone or (passage.kind is Kind.DOCSTRING and passage.line == 1):
            left_out.update(range(passage.line, passage.line + passage.lines))
    found = [(number, line.strip()) for number, line in enumerate(source.lines, 1) if number not in left_out]
    return [(number, line) for number, line in found if line and not line.startswith(remark)]


def copies(sources: Sequence[Source], longest: int = LONGEST) -> Iterator[Copy]:
    """Yield the pairs of runs with more than ``longest`` equal lines, each as long as it gets."""
    files = [code_lines(source) for source in sources]
    size = longest + 1
    places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for file, lines in enumerate(files):
        texts = [text for _, text in lines]
        for at in range(len(texts) - size + 1):
            places[tuple(texts[at : at + size])].append((file, at))
    shifts: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for found in places.values():
        for (one, here), (other, there) in combinations(found, 2):
            if one != other or there - here >= size:
                shifts[one, other, there - here].append(here)
    for (one, other, shift), starts in sorted(shifts.items()):
        for begin, end in _runs(sorted(starts)):
            first, second = files[one][begin][0], files[other][begin + shift][0]
            yield Copy(sources[one].path, first, sources[other].path, second, end - begin + size)


def _runs(starts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each stretch of numbers without gap."""
    begin = before = starts[0]
    for start in starts[1:]:
        if start != before + 1:
            yield begin, before
            begin = start
        before = start
    yield begin, before
