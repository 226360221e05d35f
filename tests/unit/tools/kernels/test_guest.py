"""Steps inside the guest: which run, with what arguments, and their last line."""

import pytest

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
