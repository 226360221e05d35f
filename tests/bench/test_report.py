"""Figures: summed up over samples, and printed for people and for programs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import Figure, report, summarize

SAMPLES = st.lists(st.floats(0, 1e9), min_size=1, max_size=50)


@given(SAMPLES)
def test_a_figure_lies_between_its_least_and_its_greatest_sample(samples: list[float]) -> None:
    figure = summarize("x.ms", "ms", samples)
    assert min(samples) == figure.low <= figure.value <= figure.high == max(samples)
    assert figure.n == len(samples)


@given(SAMPLES, st.randoms())
def test_the_order_of_samples_is_without_meaning(samples: list[float], chance: object) -> None:
    mixed = sorted(samples, reverse=True)
    assert summarize("x", "", mixed) == summarize("x", "", samples)


def test_an_outlier_moves_the_spread_and_not_the_figure() -> None:
    assert summarize("x", "", [1, 1, 1, 100]).value == 1


FIGURES = [
    Figure(name="endpoint.create.ms", value=12.345, unit="ms", low=10, high=20, n=5),
    Figure(name="x", value=1234567, unit="/s", low=1, high=2e6, n=1),
]


def test_programs_get_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    report(FIGURES, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == ["endpoint.create.ms", "x"]
    assert lines[0] == {"name": "endpoint.create.ms", "value": 12.345, "unit": "ms", "low": 10.0, "high": 20.0, "n": 5}


def test_people_get_columns(capsys: pytest.CaptureFixture[str]) -> None:
    report(FIGURES, as_json=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.index(" ms ") == second.index(" /s "), "units stand below each other"
    assert "1,234,567.00" in second
    assert second.endswith("n=1")
