"""Draw what bench.datapath measured: ``python -m bench.chart FIGURES.jsonl CHART.svg --note "when,
on what"``.

``FIGURES.jsonl`` is what ``python -m bench.datapath --json`` printed. Bars are medians, the thin
lines their spread.
"""

import argparse
from collections.abc import Iterable, Mapping
from html import escape
from math import ceil, log10
from pathlib import Path
from typing import Final

import msgspec

from bench.ours import ENTRIES
from bench.report import Figure

WIDTH, HEIGHT, MARGIN = 1080, 400, 24
PANEL: Final = (WIDTH - 4 * MARGIN) // 3
TOP: Final = 64
ROW: Final = 24
LONGEST_SPREAD: Final = 1.1
"""Value of the longest bar; lines that would be longer end there."""
OURS, OTHERS, FAINT, INK = "#0b7a75", "#9aa5b1", "#d9dee4", "#1f2933"
Figures = Mapping[str, Figure]
PACKETS: Final = (
    ("empty program", "datapath.empty.ns", OTHERS),
    ("minimal program", "datapath.minimal.ns", OTHERS),
    ("established", "datapath.forward.ns", OURS),
    ("its reply", "datapath.reply.ns", OURS),
    ("denied, with event", "datapath.drop.ns", OURS),
    ("100,000 flows: minimal", "datapath.minimal_cold.ns", OTHERS),
    ("100,000 flows: ours", "datapath.forward_cold.ns", OURS),
    ("first of a flow", "datapath.new.ns", OURS),
)
REQUESTS: Final = (
    ("ours, 10 ports", "local.rr.per_s", OURS),
    ("ours, 10,000 ports", "local.10000.rr.per_s", OURS),
    ("plain routing", "plain.rr.per_s", OTHERS),
    ("nftables, 10 rules", "nft.10.rr.per_s", OTHERS),
    ("nftables, 10,000 rules", "nft.10000.rr.per_s", OTHERS),
    ("  rules before state", "nft_rules_first.10000.rr.per_s", OTHERS),
    ("ours by VXLAN", "vxlan.rr.per_s", OURS),
    ("plain VXLAN", "plain_vxlan.rr.per_s", OTHERS),
)
CONNECTIONS: Final = (
    ("ours", ("local.crr.per_s", "local.1000.crr.per_s", "local.10000.crr.per_s"), OURS),
    ("nftables", tuple(f"nft.{count}.crr.per_s" for count in ENTRIES), OTHERS),
    ("rules before state", tuple(f"nft_rules_first.{count}.crr.per_s" for count in ENTRIES), OTHERS),
)


def main() -> None:
    """Read figures and write the chart."""
    parser = argparse.ArgumentParser(description="Draw what bench.datapath measured.")
    parser.add_argument("figures", type=Path, help="what bench.datapath --json printed")
    parser.add_argument("chart", type=Path, help="the SVG file to write")
    parser.add_argument("--note", required=True, help="when and on what kind of machine it was measured")
    arguments = parser.parse_args()
    lines = arguments.figures.read_bytes().splitlines()
    figures = {figure.name: figure for figure in (msgspec.json.decode(line, type=Figure) for line in lines)}
    arguments.chart.write_text(draw(figures, arguments.note))


def draw(figures: Figures, note: str) -> str:
    """Return the chart.

    Raises:
        KeyError: A figure is missing.
    """
    lefts = [MARGIN + number * (PANEL + MARGIN) for number in range(3)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *bars(lefts[0], "One packet in the programs: ns", PACKETS, figures),
        *bars(lefts[1], "Requests and responses a second", REQUESTS, figures),
        *connections(lefts[2], figures),
        text(MARGIN, HEIGHT - MARGIN, note, size=11, colour="#52606d"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def bars(left: int, title: str, rows: Iterable[tuple[str, str, str]], figures: Figures) -> list[str]:
    """Draw a panel of horizontal bars, each with its spread and its number."""
    rows = list(rows)
    label, number = 138, 52
    most = max(figures[name].value for _, name, _ in rows) * LONGEST_SPREAD
    scale = (PANEL - label - number) / most
    parts = [text(left, TOP - 28, title, size=14, weight="bold")]
    for index, (caption, name, colour) in enumerate(rows):
        figure, y = figures[name], TOP + index * (ROW + 8)
        low, high = (left + label + min(value, most) * scale for value in (figure.low, figure.high))
        parts += [
            text(left + label - 6, y + 16, caption, anchor="end"),
            f'<rect x="{left + label}" y="{y}" width="{figure.value * scale:.1f}" height="{ROW}" fill="{colour}"/>',
            line(low, y + ROW / 2, high, y + ROW / 2),
            text(left + PANEL, y + 16, f"{figure.value:,.0f}", anchor="end", weight="bold"),
        ]
    return parts


def connections(left: int, figures: Figures) -> list[str]:
    """Draw connections a second over the number of ports or rules, both logarithmic."""
    bottom, right = HEIGHT - 3 * MARGIN, left + PANEL - 20
    lines = [[figures[name].value for name in names] for _, names, _ in CONNECTIONS]
    ceiling = ceil(log10(max(map(max, lines))) * 2) / 2
    floor = 2.0

    def at(index: int, value: float) -> tuple[float, float]:
        x = left + 52 + index * (right - left - 72) / (len(ENTRIES) - 1)
        return x, bottom - (log10(value) - floor) / (ceiling - floor) * (bottom - TOP)

    parts = [text(left, TOP - 28, "Connections a second, by ports or rules", size=14, weight="bold")]
    for power in range(int(floor), int(ceiling) + 1):
        _, y = at(0, 10**power)
        parts += [line(left + 44, y, right, y, FAINT), text(left + 38, y + 4, f"{10**power:,}", anchor="end")]
    for index, count in enumerate(ENTRIES):
        parts.append(text(at(index, 10**floor)[0], bottom + 18, f"{count:,}", anchor="middle"))
    for (caption, _, colour), values in zip(CONNECTIONS, lines, strict=True):
        points = [at(index, value) for index, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="3"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        said = f"{caption}: {values[-1]:,.0f}"
        parts.append(text(x + 12, y + 20, said, anchor="end", weight="bold", colour=colour if colour == OURS else INK))
    return parts


def line(x: float, y: float, to_x: float, to_y: float, colour: str = INK) -> str:
    """Draw a thin line."""
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}"/>'


def text(
    x: float, y: float, said: str, *, anchor: str = "start", size: int = 12, weight: str = "normal", colour: str = INK
) -> str:
    """Write something."""
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(said)}</text>'


if __name__ == "__main__":
    main()
