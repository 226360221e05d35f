"""The table of what an import costs, and how a program ended."""

from tools.proofs.pyroute2 import Cost, measure, outcome, table

TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
ValueError: cannot open a UDP handle, invalid family 16
sys:1: RuntimeWarning: coroutine 'main' was never awaited
"""


def test_a_way_is_a_line_with_milliseconds_and_megabytes() -> None:
    lines = table({"theirs": Cost(471.2, 7532), "ours": Cost(5.4, 0)}).splitlines()
    assert [line.split() for line in lines] == [["ms", "MB"], ["theirs", "471", "7.7"], ["ours", "5", "0.0"]]


def test_an_import_is_measured_in_an_interpreter_of_its_own() -> None:
    cost = measure("text = 'x' * 8_000_000")
    assert cost.kibibytes > 7_000


def test_a_program_that_fails_is_told_by_the_error_of_its_traceback() -> None:
    assert outcome(1, TRACEBACK) == "ValueError: cannot open a UDP handle, invalid family 16"
    assert outcome(0, TRACEBACK) == "works"
    assert outcome(-11, "") == "ends with -11"
