"""Lint of one rule: only cilia/datapath calls bpf(2).

``python -m tools.bpf_access`` names what in cilia/ and services/ could reach the kernel's BPF by
another way than cilia/datapath, and exits 1 if anything does: the binding, a foreign function
interface, a raw system call, bpftool. import-linter can't see most of these ways: the binding is no
Python, and a command is a string.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tools.tree import ROOT, Source, parse, read_tree

OWNER: Final = "cilia/datapath/"
"""Directory that may do it all."""
LINTED: Final = ("cilia/", "services/")
MODULES: Final = frozenset({"cilia.datapath._libbpf", "ctypes", "_ctypes", "cffi", "_cffi_backend", "bcc"})
"""Modules through which functions of C are called."""
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "cilia/netns.py": frozenset({"ctypes"}),  # setns(2), which Python has from 3.12 on only
}
"""File -> modules that it may use nevertheless."""
SYSTEM_CALL: Final = "syscall"
"""Attribute of a C library that makes any system call."""
_SUSPECT: Final = re.compile(r"ctypes|cffi|libbpf|bcc|syscall|bpftool")
"""Words without one of which a file needs no closer look."""
_PROGRAM: Final = re.compile(r"\b(?:bpftool|libbpf)\b")


@dataclass(frozen=True, slots=True, order=True)
class Access:
    """One way to bpf(2) past its owner."""

    path: str
    line: int
    way: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.way}: only {OWNER.rstrip('/')} calls bpf(2)"


def accesses(source: Source) -> Iterator[Access]:
    """Yield the ways to bpf(2) that a file outside of cilia/datapath opens."""
    if not source.is_python or not source.path.startswith(LINTED) or source.path.startswith(OWNER):
        return
    if not _SUSPECT.search(source.text):
        return
    tree = parse(source)
    prose = _prose(tree)
    refused = MODULES - ALLOWED.get(source.path, frozenset())
    for node in ast.walk(tree):
        for way in _ways(node, refused):
            if node not in prose:
                yield Access(source.path, getattr(node, "lineno", 0), way)


def _ways(node: ast.AST, refused: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Import(names):
            yield from (f"import {alias.name}" for alias in names if _belongs(alias.name, refused))
        case ast.ImportFrom(str(module), names):
            if _belongs(module, refused):
                yield f"import {module}"
            else:
                full = (f"{module}.{alias.name}" for alias in names)
                yield from (f"import {name}" for name in full if _belongs(name, refused))
        case ast.Attribute(attr=name) if name == SYSTEM_CALL:
            yield f".{SYSTEM_CALL}"
        case ast.Constant(str(text)) if text == SYSTEM_CALL or _belongs(text, refused) or _PROGRAM.search(text):
            yield repr(text)
        case _:
            pass


def _belongs(module: str, refused: frozenset[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in refused)


def _prose(tree: ast.Module) -> set[ast.AST]:
    """Return the strings that are statements: docstrings and notes, which may name anything."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def main() -> int:
    """Name every access; return the exit status."""
    found = sorted(access for source in read_tree(ROOT) for access in accesses(source))
    for access in found:
        print(f"bpf_access: {access}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
