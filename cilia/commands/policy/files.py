"""Files that a user names on the command line."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cilia.errors import Failure

SUFFIXES = (".yaml", ".yml", ".json")


class BadInput(Failure):
    """Error of a file or an argument that can't be read, or makes no sense."""

    exit_code = 2

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def read_all(paths: Sequence[str]) -> tuple[str, str]:
    """Return the text of all files as one stream of documents, and its source for messages."""
    files = [file for path in paths for file in _files(path)]
    texts = [read_file(file) for file in files]
    return "\n---\n".join(texts), files[0] if len(files) == 1 else ", ".join(paths)


def _files(path: str) -> Iterator[str]:
    if path == "-" or not Path(path).is_dir():
        yield path
        return
    found = sorted(str(file) for file in Path(path).iterdir() if file.suffix in SUFFIXES)
    if not found:
        raise BadInput(path, f"no {', '.join(SUFFIXES)} file in this directory")
    yield from found


def read_file(path: str) -> str:
    """Return the text of a file, or of standard input for ``-``.

    Raises:
        BadInput: It can't be read, or is no text.
    """
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(path, str(error)) from error
