"""Layers: who imports whom, which modules import each other in a circle, how full the rooms are."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.tree import Source, parse

LAYERED: Final = ("cilia", "services", "laboratory")
"""Packages that import-linter's contracts are about."""
Imports = Mapping[str, frozenset[str]]
"""Module -> modules of ours that it imports, wherever in its text."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """Outcome of import-linter."""

    kept: int
    broken: int


def module_name(path: str) -> str:
    """Return the name under which a file is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(sources: Iterable[Source]) -> Imports:
    """Return the import graph of the layered packages."""
    modules = {module_name(each.path): each for each in sources if each.is_python and each.path.startswith(LAYERED)}
    return {name: frozenset(_imported(parse(source), modules.keys()) - {name}) for name, source in modules.items()}


def _imported(tree: ast.Module, modules: Set[str]) -> set[str]:
    """Return the modules that a tree imports; a package only for a name of its own."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= full | ({node.module} if full - modules else set())
    return found & modules


def cycles(graph: Imports) -> list[tuple[str, ...]]:
    """Return the groups of modules that reach each other, each in order of names."""
    reached = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ())))
        for name in graph
        if name in reached[name]
    }
    return sorted(groups)


def _reachable(graph: Imports, start: str) -> frozenset[str]:
    found: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(graph.get(name, ()))
    return frozenset(found)


def rooms(sources: Iterable[Source]) -> Counter[str]:
    """Count the modules in each directory of the layered packages, its ``__init__`` aside."""
    return Counter(
        each.path.rpartition("/")[0]
        for each in sources
        if each.is_python and each.path.startswith(LAYERED) and not each.path.endswith("__init__.py")
    )


def contracts(root: Path) -> Contracts | None:
    """Run import-linter in a tree; None where it isn't installed or has no contracts."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    ended = subprocess.run([*command, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    return read_outcome(ended.stdout)


def read_outcome(text: str) -> Contracts | None:
    """Return what import-linter concluded; None if it came to no conclusion."""
    found = re.search(r"Contracts: (\d+) kept, (\d+) broken", text)
    return Contracts(int(found[1]), int(found[2])) if found else None
