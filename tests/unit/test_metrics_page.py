"""docs/metrics.md has every metric of the code, with the help text that the code gives it.

A cluster shows the names, too (tests/cluster/test_telemetry.py); this needs none.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ROWS = re.findall(r"^\| `cilia_(\w+)` \| (\w+) \| [^|]* \| (.*) \|$", PAGE, re.MULTILINE)
SOURCES = [
    (path, ast.parse(path.read_text()))
    for room in ("cilia", "services")
    for path in sorted((ROOT / room).rglob("*.py"))
]


def counters() -> Iterator[tuple[str, str]]:
    """Yield field and help text of every counter in the code."""
    for _, tree in SOURCES:
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call) and _name(node.value) == "counter":
                assert isinstance(node.target, ast.Name)
                yield node.target.id, _text(node.value.args[0])


def gauges() -> Iterator[tuple[str, str]]:
    """Yield name and help text, where it is a plain text, of every gauge in the code."""
    for _, tree in SOURCES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node) == "gauge" and isinstance(node.args[0], ast.Constant):
                yield _text(node.args[0]), _text(node.args[1])


def _name(call: ast.Call) -> str:
    return str(getattr(call.func, "id", "") or getattr(call.func, "attr", ""))


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def test_there_are_metrics_of_both_kinds() -> None:
    assert len(list(counters())) > 30
    assert len(list(gauges())) > 25
    assert {kind for _, kind, _ in ROWS} == {"counter", "gauge"}


def test_every_counter_is_on_the_page_with_its_text() -> None:
    documented = {(name, text) for name, kind, text in ROWS if kind == "counter"}
    missing = [
        (field, text)
        for field, text in counters()
        if not any(name.endswith(f"_{field}_total") and text == found for name, found in documented)
    ]
    assert missing == []


def test_every_counter_of_the_page_is_in_the_code() -> None:
    known = set(counters())
    stale = [
        (name, text)
        for name, kind, text in ROWS
        if kind == "counter" and not any(name.endswith(f"_{field}_total") and text == found for field, found in known)
    ]
    assert stale == []


def test_every_gauge_is_on_the_page_with_its_text() -> None:
    documented = {name: text for name, kind, text in ROWS if kind == "gauge"}
    assert [(name, text) for name, text in gauges() if text and documented.get(name) != text] == []
    assert [name for name, _ in gauges() if name not in documented] == []


def test_every_gauge_of_the_page_is_in_the_code() -> None:
    known = {name for name, _ in gauges()} | {"forwarded_packets", "forwarded_bytes"}  # one name for two units
    assert [name for name, kind, _ in ROWS if kind == "gauge" and name not in known] == []
