"""Steps inside the guest: which run, with what arguments, and their last line."""

import json
from pathlib import Path

import pytest

from tools.kernels import guest
from tools.kernels.guest import STEPS, planned, summary


def test_steps_run_in_the_order_of_the_table_whatever_the_order_asked() -> None:
    asked = list(reversed(STEPS))
    assert [step for step, _ in planned(asked, accept=False)] == list(STEPS)


def test_a_step_that_nobody_asked_for_does_not_run() -> None:
    assert list(planned(["packets", "no-such-step"], accept=False)) == [("packets", STEPS["packets"])]
    assert list(planned([], accept=False)) == []


def test_accepting_measures_without_comparing_and_changes_no_other_step() -> None:
    accepted = dict(planned(STEPS, accept=True))
    assert accepted["load"] == ("-m", "tools.complexity")
    assert {step: accepted[step] for step in STEPS if step != "load"} == {
        step: arguments for step, arguments in STEPS.items() if step != "load"
    }


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", ""),
        ("\n \n", ""),
        ("....\n3 passed in 2.51s\n", "3 passed"),
        ("3 passed, 1 skipped in 125.01s (0:02:05)\n\n", "3 passed, 1 skipped"),
        ("1 failed in 0.5s", "1 failed"),
        ("  grew from 1 to 2  (+100%)\n", "grew from 1 to 2 (+100%)"),
        ("packets agree in both families\n", "packets agree in both families"),
    ],
)
def test_a_summary_is_the_last_line_without_its_duration(output: str, expected: str) -> None:
    assert summary(output) == expected


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of the port on which the host listens."""
    path = tmp_path / "ttyS1"
    monkeypatch.setattr(guest, "RESULTS", path)
    return path


def told(results: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in results.read_text().splitlines()]


def test_a_step_that_fails_is_told_with_its_last_line_and_the_next_one_still_runs(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest.perform("load", ("-c", "print('loaded'); print('it grew'); raise SystemExit(3)"))
    guest.perform("packets", ("-c", "print('7 passed in 1.20s')"))
    assert [(each["step"], each["passed"], each["detail"]) for each in told(results)] == [
        ("load", False, "it grew"),
        ("packets", True, "7 passed"),
    ]
    assert "--- load\nloaded\nit grew" in capsys.readouterr().out


def test_what_a_step_says_on_its_error_output_is_told_too(results: Path) -> None:
    guest.perform("load", ("-c", "raise ValueError('no such map')"))
    (found,) = told(results)
    assert (found["passed"], found["detail"]) == (False, "ValueError: no such map")


@pytest.mark.parametrize(("missing", "means"), [((), "TCX"), (("TCX (Linux 6.6)",), "clsact"), (("x",), "TCX")])
def test_programs_are_attached_by_what_the_kernel_has(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], means: str
) -> None:
    monkeypatch.setattr("cilia.datapath.features.missing_features", lambda: missing)
    assert guest.attachment() == means
