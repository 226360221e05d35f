"""Prose between code: docstrings, notes on attributes, comments of Python and C."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tools.tree import Source, parse

_C_COMMENT: Final = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.S)
_PRAGMA: Final = re.compile(r"noqa|type:|pragma|fmt:|SPDX|!")
"""Openings of comments that machines read."""


class Kind(StrEnum):
    """Place of a passage among code."""

    DOCSTRING = "docstring"
    NOTE = "note"
    """String behind an attribute or a constant."""
    COMMENT = "comment"


@dataclass(frozen=True, slots=True)
class Passage:
    """Some sentences that stand together."""

    path: str
    line: int
    kind: Kind
    text: str
    """Text without marks, its white space made one blank each."""
    lines: int
    """Lines that it takes in the file."""


def passages(source: Source) -> Iterator[Passage]:
    """Yield the prose of a file."""
    if source.is_python:
        yield from _strings(source)
        yield from _comments(source)
    elif source.is_c:
        for found in _C_COMMENT.finditer(source.text):
            text = _flat(re.sub(r"^\s*\*(?!/)", "", found[0].strip("/*"), flags=re.M))
            if found[0][0] == "/" and not _PRAGMA.match(text):
                line = source.text.count("\n", 0, found.start()) + 1
                yield Passage(source.path, line, Kind.COMMENT, text, found[0].count("\n") + 1)


def _strings(source: Source) -> Iterator[Passage]:
    for node in ast.walk(parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        before: ast.stmt | None = None
        for at, statement in enumerate(node.body):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                value = statement.value
                kind = Kind.DOCSTRING if at == 0 else Kind.NOTE
                if isinstance(value.value, str) and (at == 0 or isinstance(before, ast.Assign | ast.AnnAssign)):
                    lines = (value.end_lineno or value.lineno) - value.lineno + 1
                    yield Passage(source.path, value.lineno, kind, _flat(value.value), lines)
            before = statement


def _comments(source: Source) -> Iterator[Passage]:
    """Yield the comments; lines of comments below each other are one."""
    block: list[str] = []
    start = end = 0
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type != tokenize.COMMENT:
            continue
        text, (line, column) = token.string.lstrip("#").strip(), token.start
        if block and line == end + 1 and not token.line[:column].strip():
            block.append(text)
            end = line
            continue
        if block:
            yield Passage(source.path, start, Kind.COMMENT, _flat(" ".join(block)), len(block))
        block, start, end = ([], 0, 0) if _PRAGMA.match(text) else ([text], line, line)
    if block:
        yield Passage(source.path, start, Kind.COMMENT, _flat(" ".join(block)), len(block))


def _flat(text: str) -> str:
    return " ".join(text.split())
