"""The figures as rows for people and as JSON for scripts, one tree beside another."""

import json
from collections.abc import Iterator, Mapping

import msgspec

from tools.figures import limits
from tools.figures.figures import Figures
from tools.figures.passages import Kind
from tools.figures.prose import COLUMNS
from tools.figures.sizes import percentile

Rows = Mapping[str, tuple[str, str]]
"""Name of a figure -> its value and its limit, or an empty string."""


def rows(figures: Figures) -> Rows:
    """Return the figures of one tree by name, in the order in which they are read."""
    return {name: (value, limit) for name, value, limit in _rows(figures)}


def _rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    for name, files in (("files", figures.files), ("test files", figures.test_files)):
        yield f"{name}", f"{len(files)}", ""
        yield f"{name}: median lines", f"{percentile(files.values(), 0.5)}", f"{limits.MEDIAN_FILE}"
        yield f"{name}: 95 % up to", f"{percentile(files.values(), limits.LARGE_SHARE)}", f"{limits.LARGE_FILE}"
        yield f"{name}: largest", f"{max(files.values(), default=0)}", ""
    sizes = [each.lines for each in figures.functions]
    yield "functions: median lines", f"{percentile(sizes, 0.5)}", ""
    yield "functions: longest", f"{max(sizes, default=0)}", f"{limits.LONGEST_FUNCTION}"
    yield "functions too long", f"{sum(size > limits.LONGEST_FUNCTION for size in sizes)}", "0"
    yield "contracts kept", f"{figures.contracts.kept}" if figures.contracts else "?", ""
    yield "contracts broken", f"{figures.contracts.broken}" if figures.contracts else "?", "0"
    yield "import cycles", f"{len(figures.cycles)}", "0"
    yield "rooms", f"{len(figures.rooms)}", ""
    yield "modules in the fullest room", f"{max(figures.rooms.values(), default=0)}", ""
    for kind in Kind:
        found = sum(each is kind for each, _ in figures.openings)
        yield f"{kind}s that lack their noun", f"{found}", "0"
    yield f"lines of prose beyond column {COLUMNS}", f"{len(figures.wide)}", "0"
    total = figures.total
    yield "source lines", f"{total.source:,}", ""
    yield "test lines", f"{total.tests:,}", ""
    yield "test : source, blanks left out", f"{total.ratio:.2f}", f"{limits.LEAST_RATIO:g}"
    for area, lines in figures.lines.items():
        if lines.source:
            yield f"  {area}", f"{lines.tests_filled:,} : {lines.source_filled:,} = {lines.ratio:.2f}", ""
        else:
            yield f"  {area}", f"{lines.tests_filled:,}", ""
    for walk in figures.walks:
        yield f"files: {walk.name.lower()}", f"{walk.length}", f"{limits.LONGEST_WALK}"
    yield "pairs of copies", f"{len(figures.copies)}", "0"
    broad = 1000 * figures.broad_handlers / total.source if total.source else 0
    yield "broad excepts per 1,000 lines", f"{broad:.2f}", ""


def table(now: Figures, base: Figures | None = None) -> str:
    """Return the rows under each other; those of ``base``, if any, stand before today's."""
    before = rows(base) if base else {}
    lines = [("", *(["before"] if base else []), "now", "limit")]
    for name, (value, limit) in rows(now).items():
        lines.append((name, *([before.get(name, ("",))[0]] if base else []), value, limit))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in cells).rstrip() + "\n"
        for cells in (enumerate(zip(line, widths, strict=True)) for line in lines)
    )


def as_json(now: Figures, base: Figures | None = None) -> str:
    """Return every figure with the places that it is made of."""
    trees = {"now": now} | ({"base": base} if base else {})
    return json.dumps({name: _plain(tree) for name, tree in trees.items()}, indent=2) + "\n"


def _plain(figures: Figures) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(figures)
    plain["functions"] = [
        msgspec.to_builtins(each) for each in figures.functions if each.lines > limits.LONGEST_FUNCTION
    ]
    return {"rows": {name: value for name, (value, _) in rows(figures).items()}, **plain}
