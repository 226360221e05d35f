"""The table of kernels and steps, and the records that a run replaces."""

from pathlib import Path

from tools.complexity import Complexity, Row, render
from tools.kernels.__main__ import passed, replace_records
from tools.kernels.__main__ import render as render_matrix
from tools.kernels.machine import Outcome, Report

STEPS = ["boot", "load"]
GOOD = Report("6.1.0", Path("/c/6.1"), {"boot": Outcome(True, 12.34, "TCX"), "load": Outcome(True, 1.0, "")})
CUT = Report("6.12.0", Path("/c/6.12"), {"boot": Outcome(True, 9.0, "TCX")})
ONE, OTHER = Complexity(1, 2, 3), Complexity(4, 5, 6)


def test_a_kernel_passes_if_it_reached_and_passed_every_step() -> None:
    assert passed(GOOD, STEPS)
    assert not passed(CUT, STEPS)
    assert passed(CUT, ["boot"])
    assert not passed(Report("6.1", Path("/c"), {"boot": Outcome(False, 1.0, "")}), ["boot"])


def test_a_step_that_was_not_reached_is_shown_and_the_console_named() -> None:
    lines = render_matrix([GOOD, CUT], STEPS).splitlines()
    assert lines[0] == "Linux 6.1.0"
    assert lines[1].split() == ["boot", "ok", "12.3", "s", "TCX"]
    assert lines[3:] == [
        "Linux 6.12.0",
        "  boot     ok         9.0 s  TCX",
        "  load     FAILED     0.0 s  not reached",
        "  console: /c/6.12",
    ]


def test_records_of_the_measured_kernels_are_replaced_whole() -> None:
    before = {Row("6.1", "gone"): ONE, Row("6.1", "stays"): ONE, Row("6.18", "other"): ONE}
    measured = Report("6.1.0", Path("/c"), {}, render({Row("6.1", "stays"): OTHER}))
    assert replace_records(before, [measured]) == {Row("6.1", "stays"): OTHER, Row("6.18", "other"): ONE}


def test_a_kernel_that_measured_nothing_keeps_its_records() -> None:
    before = {Row("6.1", "stays"): ONE}
    assert replace_records(before, [CUT]) == before
