"""Errors between Python and the kernel's BPF.

DatapathError
|- KernelError           a call failed; errno
|  |- LoadFailed         with the end of the verifier's log
|  `- MapError           with the map, the operation and the key
|     `- MapFull         with how much of a batch is done
|- NotPinned             nothing at that path
|- MapMismatch           a map isn't laid out as wanted
|- CannotMigrate         its entries can't be converted to another layout
|- UnsupportedType       a type that can't stand in a map
|- UnknownName           an object has no such variable, map or program
`- VariableMismatch      a value doesn't fit its variable
"""

import errno as errnos
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

ENOTSUPP = 524
"""The kernel's own "operation not supported", which the C library has no words for."""


def describe(errno: int) -> str:
    """Give ``ENOENT: No such file or directory`` for 2."""
    if errno == ENOTSUPP:
        return "ENOTSUPP: Not supported by the kernel"
    return f"{errnos.errorcode.get(errno, errno)}: {os.strerror(errno)}"


class DatapathError(Exception):
    """Root of what this package raises."""


class KernelError(DatapathError):
    """A call failed.

    Attributes:
        operation: What was tried, in words.
        errno: Positive error number.
    """

    def __init__(self, operation: str, errno: int, detail: str = "") -> None:
        super().__init__(f"{operation}: {describe(errno)}{detail}")
        self.operation = operation
        self.errno = errno


class LoadFailed(KernelError):
    """The kernel or libbpf refused an object.

    Attributes:
        object: File.
        program: The program refused; empty where it isn't about one.
        log: End of what libbpf and the verifier said.
    """

    def __init__(self, object_file: Path, program: str, errno: int, log: str) -> None:
        subject = f"load {object_file.name}" + (f", program {program}" if program else "")
        super().__init__(subject, errno, f"\n{log.rstrip()}" if log.strip() else "")
        self.object = object_file
        self.program = program
        self.log = log


class MapError(KernelError):
    """A map refused an operation.

    Attributes:
        map: Its name.
        key: The packed key; empty where the operation has none.
    """

    def __init__(self, map_name: str, operation: str, errno: int, key: bytes = b"", detail: str = "") -> None:
        at = f", key {key.hex()}" if key else ""
        super().__init__(f"map {map_name}: {operation}{at}", errno, detail)
        self.map = map_name
        self.key = key


class MapFull(MapError):
    """A map has no room for another entry.

    Attributes:
        max_entries: Its capacity.
        done: How many elements of the batch, from its front, are in the map.
    """

    def __init__(self, map_name: str, max_entries: int, errno: int, *, key: bytes, done: int) -> None:
        super().__init__(map_name, "update", errno, key, f" (full: {max_entries} entries, {done} of the batch written)")
        self.max_entries = max_entries
        self.done = done


class NotPinned(DatapathError):
    """Nothing is pinned at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"nothing is pinned at {path}")
        self.path = path


class MapMismatch(DatapathError):
    """A map exists but isn't laid out as wanted.

    Attributes:
        map: Its name.
        differences: What differs -> (present, wanted).
    """

    def __init__(self, map_name: str, differences: Mapping[str, tuple[object, object]]) -> None:
        words = ", ".join(f"{what} is {present}, wanted {wanted}" for what, (present, wanted) in differences.items())
        super().__init__(f"map {map_name}: {words}")
        self.map = map_name
        self.differences = dict(differences)


class CannotMigrate(DatapathError):
    """Entries of a map don't fit into the layout that is wanted.

    Attributes:
        map: Its name.
    """

    def __init__(self, map_name: str, reason: str) -> None:
        super().__init__(f"map {map_name}: {reason}")
        self.map = map_name


class UnsupportedType(DatapathError):
    """A type that can't stand in a map or an event, such as a pointer or a union."""


class UnknownName(DatapathError):
    """An object has nothing of that name.

    Attributes:
        kind: "variable", "map" or "program".
        known: What it has.
    """

    def __init__(self, object_file: Path, kind: str, name: str, known: Iterable[str]) -> None:
        self.known = tuple(sorted(known))
        super().__init__(f"{object_file.name}: no {kind} {name!r}; it has {', '.join(self.known) or 'none'}")
        self.kind = kind
        self.name = name


class VariableMismatch(DatapathError):
    """A value doesn't fit the ``const volatile`` variable it is meant for."""

    def __init__(self, object_file: Path, name: str, size: int, value: int | bytes) -> None:
        given = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
        super().__init__(f"{object_file.name}: variable {name!r} has {size} bytes, and {given} doesn't fit")
        self.name = name
        self.size = size
        self.value = value
