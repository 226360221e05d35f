"""Files of a tree, as the checks read them: what is ours, what is a test, what is generated."""

import ast
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE_ROOTS: Final = ("cilia", "services", "bpf", "tools")
"""Directories whose lines tests should outnumber: what ships, and what builds it."""
ROOTS: Final = (*SOURCE_ROOTS, "laboratory", "bench", "tests")
GENERATED: Final = frozenset(f"cilia/abi/{name}.py" for name in ("structs", "maps", "enums", "offsets", "defaults"))
"""Files that `make abi` writes; nobody reads them from top to bottom."""
C_SUFFIXES: Final = (".c", ".h")
SCRIPT_SUFFIX: Final = ".txt"
"""Suffix of the text scripts below tests/ that drive state machines."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file with lines of ours."""

    path: str
    """Path from the tree's root, with slashes."""
    text: str

    @property
    def lines(self) -> list[str]:
        """Return its lines, without their ends."""
        lines = self.text.split("\n")
        return lines if lines[-1] else lines[:-1]

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def is_c(self) -> bool:
        return self.path.endswith(C_SUFFIXES)

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    @property
    def is_source(self) -> bool:
        """Tell whether tests should answer for it, as for all but laboratory, bench and tests."""
        return self.path.split("/")[0] in SOURCE_ROOTS


@cache
def parse(source: Source) -> ast.Module:
    """Return the syntax tree of a Python file; raises SyntaxError."""
    return ast.parse(source.text, source.path)


def read_tree(root: Path) -> list[Source]:
    """Read what was written by hand below ``root``, in order of paths.

    Changes that aren't committed count; files that git ignores do not.
    """
    found = []
    for path in sorted(_paths(root)):
        kept = path.endswith((".py", *C_SUFFIXES)) or (path.startswith("tests/") and path.endswith(SCRIPT_SUFFIX))
        if kept and path.split("/")[0] in ROOTS and path not in GENERATED and (root / path).is_file():
            found.append(Source(path, (root / path).read_text()))
    return found


def _paths(root: Path) -> Sequence[str]:
    if (root / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        return list(filter(None, listed.stdout.split("\0")))
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if "__pycache__" not in path.parts]


@contextmanager
def checked_out(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """Lend the tree of a revision, in a directory that goes afterwards; a directory is itself.

    Raises:
        subprocess.CalledProcessError: Git knows no such revision.
    """
    if Path(revision).is_dir():
        yield Path(revision).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="cilia-tree-") as scratch:
        archive = subprocess.run(["git", "archive", revision], cwd=root, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", scratch], input=archive.stdout, check=True)
        yield Path(scratch)
