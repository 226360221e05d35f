"""Output of results: tables for people, JSON for programs, notes beside them on stderr."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Staleness

PATIENCE_SECONDS: Final = 1.0
"""Time after which a command that waits says what for."""


def print_json(value: Any) -> None:
    """Write a value as indented JSON."""
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(_name_fields(value)), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def print_json_line(value: Any) -> None:
    """Write a value as one line of JSON, for streams; fields with their default are left out."""
    print(msgspec.json.encode(value).decode(), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Write rows under their columns, as wide as they are; ``empty`` instead if there are none."""
    if not rows:
        note(empty)
        return
    cells = [[str(column).upper() for column in columns], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def join_addresses(*addresses: str) -> str:
    """Return the addresses that are there, IPv4 and IPv6, as one cell."""
    return ",".join(filter(None, addresses))


def format_time(unix_ns: int) -> str:
    """Return a time as local date and time; ``-`` for none."""
    return datetime.fromtimestamp(unix_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S") if unix_ns else "-"


def format_age(seconds: float) -> str:
    """Return a time in its two largest units, such as ``1h05m``."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def describe_staleness(name: NodeName, staleness: Staleness, now_ns: int) -> str:
    """Return what it means that a node is stale, and what ends it."""
    silent = format_age((now_ns - staleness.since_ns) / 1e9)
    after = format_age(staleness.dead_after_seconds)
    end = f"it is declared dead after {after} of silence" if staleness.dead_after_seconds else "it is never removed"
    return (
        f"{name} is stale: its agent is silent for {silent}. What it has stays in force; {end}, "
        f"unless it is heard; 'cilia node delete {name}' removes it at once"
    )


def note(text: str) -> None:
    """Print a remark on stderr, beside the result."""
    print(text, file=sys.stderr)


@contextmanager
def note_if_slow(text: str) -> Iterator[None]:
    """Print a remark if the block, which must run in an event loop, takes longer than a second."""
    timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, note, text)
    try:
        yield
    finally:
        timer.cancel()


def _name_fields(value: Any) -> Any:
    """Return a value with its rows, which travel as arrays, as objects with their fields' names."""
    match value:
        case msgspec.Struct():
            return {field: _name_fields(getattr(value, field)) for field in value.__struct_fields__}
        case dict():
            return {str(key): _name_fields(item) for key, item in value.items()}
        case list() | tuple():
            return [_name_fields(item) for item in value]
        case _:
            return value
