"""Comparison with a former tree: quotients, and what either side runs."""

import sys
from pathlib import Path

import pytest

from bench import compare
from bench.compare import SCRIPTS, quotients, run_benchmark
from bench.report import report


def test_each_round_gives_one_quotient() -> None:
    (figure,) = quotients([{"a.ms": 2.0}, {"a.ms": 3.0}, {"a.ms": 1.0}], [{"a.ms": 1.0}] * 3)
    assert (figure.name, figure.value, figure.low, figure.high, figure.n) == ("a.ms.former_ratio", 2.0, 1.0, 3.0, 3)


def test_a_figure_of_one_side_only_has_no_quotient() -> None:
    assert quotients([{"new": 1.0}], [{"old": 1.0}]) == []
    assert quotients([{"a": 1.0}], [{"a": 0.0}]) == []


def test_a_round_that_was_cut_after_one_side_is_left_out() -> None:
    assert [figure.n for figure in quotients([{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}])] == [1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_leaves_figures(name: str) -> None:
    assert "figures" in compile(SCRIPTS[name], name, "exec").co_names


def test_a_benchmark_runs_in_the_tree_that_it_belongs_to(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/__init__.py").touch()
    figure = '{"name":"%s","value":7,"unit":"","low":7,"high":7,"n":1}'
    report = f"def report(figures, as_json):\n    print({figure!r} % figures)\n"
    (tmp_path / "bench/report.py").write_text(report)
    assert run_benchmark(tmp_path, "figures = 'here'") == {"here": 7}


def test_an_unknown_benchmark_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", "HEAD", "speed"])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 2
    assert "no benchmark 'speed'; there are programs, endpoint, resolution, policy" in capsys.readouterr().err


def test_a_comparison_that_was_cut_at_once_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report(quotients([{"a": 1.0}], []), as_json=False)
    assert capsys.readouterr().out == ""
