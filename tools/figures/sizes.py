"""Sizes of files and functions, and how often a handler catches everything."""

import ast
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tools.tree import Source, parse

BROAD: Final = frozenset({"Exception", "BaseException"})
_C_NAME: Final = re.compile(r"(\w+)\(")


@dataclass(frozen=True, slots=True)
class Function:
    """One function of Python or C, nested ones and methods too."""

    path: str
    name: str
    line: int
    lines: int
    """Lines from its first word to its end, the docstring included and decorators not."""


def percentile(values: Iterable[int], share: float) -> int:
    """Return the least value that at least ``share`` of the values don't exceed; 0 of no values."""
    ordered = sorted(values)
    if not ordered:
        return 0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def functions(source: Source) -> Iterator[Function]:
    """Yield the functions of a file."""
    if source.is_python:
        for node in ast.walk(parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(source.path, node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
    elif source.is_c:
        yield from _c_functions(source)


def _c_functions(source: Source) -> Iterator[Function]:
    """Yield what stands between braces in the first column, behind a line with a parenthesis.

    Kernel style puts the braces of functions, and of nothing else, alone into the first column.
    """
    opened = first = 0
    name = ""
    for number, line in enumerate(source.lines, 1):
        if line == "{":
            opened = number
        elif line == "}" and opened:
            yield Function(source.path, name, first, number - first + 1)
            opened = first = 0
        elif not opened and line and not line[0].isspace() and (found := _C_NAME.search(line)):
            first, name = number, _last_name(line, found[1])


def _last_name(line: str, default: str) -> str:
    """Return the name before the parenthesis of the parameters, which attributes precede."""
    names = [name for name in _C_NAME.findall(line) if not name.startswith("__attribute")]
    return str(names[0]) if names else default


def broad_handlers(source: Source) -> int:
    """Count the handlers of a file that catch every exception."""
    if not source.is_python:
        return 0
    return sum(
        isinstance(node, ast.ExceptHandler) and (node.type is None or bool(BROAD & _names(node.type)))
        for node in ast.walk(parse(source))
    )


def _names(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
