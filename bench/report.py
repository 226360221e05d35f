"""Figures of a benchmark: a table for people, one JSON object a line for machines (``--json``)."""

import sys
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec
from msgspec import Struct


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
    """Print the figures."""
    figures = list(figures)
    if as_json:
        for figure in figures:
            print(msgspec.json.encode(figure).decode())
        return
    width = max((len(figure.name) for figure in figures), default=0)
    for each in figures:
        spread = f"{each.low:,.2f} .. {each.high:,.2f}"
        print(f"{each.name:<{width}}  {each.value:>14,.2f} {each.unit:<10} {spread:<28} n={each.n}")
