"""Small trees to measure."""

from textwrap import dedent

from tools.tree import Source


def python(text: str, path: str = "cilia/one.py") -> Source:
    """Return a file with an indented text's lines at the margin."""
    return Source(path, dedent(text).lstrip("\n"))


def c(text: str, path: str = "bpf/lib/one.h") -> Source:
    """Return a header, likewise."""
    return Source(path, dedent(text).lstrip("\n"))


def numbered(count: int, name: str = "call") -> str:
    """Return so many lines of code, no two of them equal."""
    return "".join(f"{name}_{number}()\n" for number in range(count))
