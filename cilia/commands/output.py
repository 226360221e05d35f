"""How results look: tables for people, JSON for programs."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

PATIENCE_SECONDS: Final = 1.0


def print_json(value: Any) -> None:
    """Write a value as indented JSON."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(_named(value)), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Write rows under their columns, as wide as they are; ``empty`` instead if there are none."""
    if not rows:
        note(empty)
        return
    cells = [[str(column).upper() for column in columns], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def both(*addresses: str) -> str:
    """Return the addresses that are there, IPv4 and IPv6, as one cell."""
    return ",".join(filter(None, addresses))


def note(text: str) -> None:
    """Say something beside the result."""
    print(text, file=sys.stderr)


@contextmanager
def note_if_slow(text: str) -> Iterator[None]:
    """Say what the block, which must run in an event loop, is about if it takes longer than a
    second.
    """
    timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, note, text)
    try:
        yield
    finally:
        timer.cancel()


def _named(value: Any) -> Any:
    """Return rows, which travel as arrays, as objects with their fields' names."""
    match value:
        case msgspec.Struct():
            return {field: _named(getattr(value, field)) for field in value.__struct_fields__}
        case dict():
            return {str(key): _named(item) for key, item in value.items()}
        case list() | tuple():
            return [_named(item) for item in value]
        case _:
            return value
