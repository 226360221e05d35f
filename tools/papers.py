"""Names in the papers: files, modules, targets of make and links that must lead somewhere."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

PAPERS: Final = ("*.md", "docs/*.md", "bpf/*.md")
NO_PATHS: Final = frozenset({"services/bad-empty"})
"""Names of other things that look like paths: a case of a corpus of policies."""
_CODE: Final = re.compile(r"```.*?```|`([^`\n]+)`", re.S)
_LINK: Final = re.compile(r"\]\(([^)#\s]+)")
_FILE: Final = re.compile(r"[\w./*-]+\.(?:py|c|h|md|txt|toml|svg|jsonl)")
_MODULE: Final = re.compile(r"-m ([\w.]+)")
_TARGET: Final = re.compile(r"\bmake ([a-z]+)")
_BRACES: Final = re.compile(r"\{([^{}]*,[^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Tree:
    """Names that exist."""

    files: frozenset[str]
    """Paths of files from the root, with slashes."""
    targets: frozenset[str]
    """Targets of the Makefile."""

    @property
    def directories(self) -> frozenset[str]:
        """Return the paths of all directories that hold a file."""
        return frozenset(str(parent) for path in self.files for parent in Path(path).parents)

    @property
    def roots(self) -> frozenset[str]:
        """Return the names of the directories at the root."""
        return frozenset(path.split("/")[0] for path in self.files if "/" in path)


def read_names(root: Path) -> Tree:
    """Return the names of a checkout, new files included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    targets = re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.M)
    return Tree(frozenset(path for path in listed if path and (root / path).exists()), frozenset(targets))


def dead_names(text: str, tree: Tree, directory: str = "") -> Iterator[str]:
    """Yield what a paper in ``directory`` names and ``tree`` doesn't have.

    Links are relative to the paper, paths in code start at the root or are the last part of one.
    """
    for link in _LINK.findall(text):
        path = str(Path(directory, link))
        if "://" not in link and path not in tree.files | tree.directories:
            yield link
    for code in (found[0].strip("`") for found in _CODE.finditer(text)):
        yield from (name for name in _TARGET.findall(code) if name not in tree.targets)
        yield from (name for name in _MODULE.findall(code) if _is_ours(name, tree) and not _has_module(name, tree))
        for word in code.split():
            for path in expand(word.strip(",;:()'\"")):
                if _is_path(path, tree) and not _exists(path.rstrip("/"), tree):
                    yield path


def expand(word: str) -> list[str]:
    """Return the words that one with braces stands for, as a shell does."""
    found = _BRACES.search(word)
    if not found:
        return [word]
    return [
        each
        for part in found[1].split(",")
        for each in expand(word[: found.start()] + part.strip() + word[found.end() :])
    ]


def _is_path(word: str, tree: Tree) -> bool:
    if word in NO_PATHS or not re.fullmatch(r"[\w./*-]+", word) or word.startswith(("/", "-", ".")):
        return False
    root, slash, _ = word.partition("/")
    return (bool(slash) and root in tree.roots) or (not slash and _FILE.fullmatch(word) is not None)


def _exists(path: str, tree: Tree) -> bool:
    names = tree.files | tree.directories
    if "*" in path:
        return any(fnmatch(name, path) for name in names)
    return path in names or ("/" not in path and any(name.endswith(f"/{path}") for name in tree.files))


def _is_ours(module: str, tree: Tree) -> bool:
    return module.split(".")[0] in tree.roots


def _has_module(module: str, tree: Tree) -> bool:
    path = module.replace(".", "/")
    return f"{path}.py" in tree.files or f"{path}/__main__.py" in tree.files
