"""Figures of a benchmark: a table for people, one JSON object a line for machines (``--json``)."""

import signal
import sys
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

WIDTH: Final = 40
"""Columns of a name."""


class Figure(Struct, frozen=True, kw_only=True):
    """One measured figure.

    The unit also stands last in the name, as in ``table.delta.500_agents.ms``.
    """

    name: str
    value: float
    """Median, unless the name says otherwise."""
    unit: str
    low: float
    high: float
    """Spread of the samples: least and greatest."""
    n: int
    """Number of samples."""


def summarize(name: str, unit: str, samples: Sequence[float]) -> Figure:
    """Return the figure of some samples: median, least, greatest."""
    return Figure(name=name, value=median(samples), unit=unit, low=min(samples), high=max(samples), n=len(samples))


def report(figures: Iterable[Figure], *, as_json: bool = "--json" in sys.argv) -> None:
    """Print each figure as soon as it is there."""
    for each in figures:
        if as_json:
            print(msgspec.json.encode(each).decode(), flush=True)
            continue
        spread = f"{each.low:,.2f} .. {each.high:,.2f}"
        print(f"{each.name:<{WIDTH}}  {each.value:>14,.2f} {each.unit:<10} {spread:<28} n={each.n}", flush=True)


def report_until_interrupted(figures: Iterable[Figure], *, as_json: bool) -> int:
    """Print each figure as soon as it is there; ^C and SIGTERM end the run and keep what was
    measured.

    Returns:
        The exit code.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report(figures, as_json=as_json)
    except KeyboardInterrupt:
        print("interrupted; what was measured stands above", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0
