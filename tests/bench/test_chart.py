"""Chart of the data plane: every figure is there, and bars are as long as their values."""

import re
from xml.etree import ElementTree

import pytest

from bench.chart import CONNECTIONS, PACKETS, PANEL, REQUESTS, WIDTH, bars, draw
from bench.report import Figure, summarize

NAMES = [name for _, name, _ in (*PACKETS, *REQUESTS)] + [name for _, names, _ in CONNECTIONS for name in names]


def figures(value: float = 1000.0) -> dict[str, Figure]:
    return {name: summarize(name, "", [value * 0.9, value, value * 1.1]) for name in NAMES}


def test_the_chart_is_well_formed_and_says_what_was_measured() -> None:
    chart = draw(figures(), "on <this> machine")
    texts = [element.text for element in ElementTree.fromstring(chart).iter() if element.tag.endswith("text")]
    assert "on <this> machine" in texts
    assert {caption.strip() for caption, _, _ in (*PACKETS, *REQUESTS)} <= {(each or "").strip() for each in texts}


@pytest.mark.parametrize("missing", [PACKETS[0][1], REQUESTS[-1][1], CONNECTIONS[0][1][0]])
def test_a_figure_that_is_missing_is_named(missing: str) -> None:
    known = figures()
    del known[missing]
    with pytest.raises(KeyError, match=re.escape(missing)):
        draw(known, "")


def test_a_bar_is_as_long_as_its_value_and_the_longest_fits() -> None:
    rows = [("half", "half", "#000"), ("whole", "whole", "#000")]
    known = {"half": summarize("half", "", [50]), "whole": summarize("whole", "", [90, 100, 500])}
    drawn = bars(0, "title", rows, known)
    half, whole = (float(found[1]) for part in drawn if (found := re.search(r'<rect.* width="([\d.]+)"', part)))
    assert whole == pytest.approx(2 * half, rel=0.01)
    assert whole < PANEL
    ends = [float(found[1]) for part in drawn if (found := re.search(r'x2="([\d.]+)"', part))]
    assert max(ends) <= PANEL, "a spread far beyond ends at the panel's edge"


@pytest.mark.parametrize("value", [150.0, 1000.0, 999_999.0])
def test_nothing_is_drawn_outside_of_the_chart(value: float) -> None:
    for name in ("x", "x1", "x2", "cx"):
        for found in re.findall(rf' {name}="(-?[\d.]+)"', draw(figures(value), "")):
            assert 0 <= float(found) <= WIDTH
