"""The line that tells why bcc failed."""

import pytest

from tools.proofs.bcc import LONGEST, outcome


def test_success_is_ok_whatever_was_said() -> None:
    assert outcome(0, "error: none") == "ok"


@pytest.mark.parametrize(
    ("returncode", "stderr", "expected"),
    [
        (1, "note\n  a.c:1: error: no maps\nmore\n", "refused: a.c:1: error: no maps"),
        (1, "first\nsecond\n", "refused: first"),
        (1, "", "refused: no message"),
        (1, " \n\n", "refused: no message"),
        (-6, "LLVM ERROR: broken\n", "the process dies of signal 6: LLVM ERROR: broken"),
    ],
)
def test_a_failure_is_told_by_the_first_line_that_names_an_error(returncode: int, stderr: str, expected: str) -> None:
    assert outcome(returncode, stderr) == expected


def test_a_long_line_is_cut() -> None:
    assert outcome(1, "error: " + "x" * 500) == "refused: " + ("error: " + "x" * 500)[:LONGEST]
