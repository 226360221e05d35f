"""Forked processes end, and are ended, as others."""

import signal
import subprocess
import sys

import pytest

from laboratory.fork_server import _exit_code
from laboratory.forked import fork

PROGRAM = "tests.unit.laboratory.forked_program"


def test_the_exit_code_is_that_of_the_program() -> None:
    for code in (0, 3):
        assert fork(PROGRAM, ["exit", str(code)]).wait(60) == code


def test_an_exception_is_exit_code_1() -> None:
    assert fork(PROGRAM, ["raise"]).wait(60) == 1


def test_a_process_that_runs_has_no_exit_code_yet() -> None:
    process = fork(PROGRAM, ["sleep"])
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.kill()  # again is no error


def test_forks_do_not_share_their_chance() -> None:
    first, second = (fork(PROGRAM, ["random"]).wait(60) for _ in range(2))
    third = fork(PROGRAM, ["random"]).wait(60)
    assert len({first, second, third}) > 1


@pytest.mark.parametrize(("ended", "code"), [(None, 0), (0, 0), (2, 2), ("no", 1)])
def test_a_program_may_exit_with_a_number_a_text_or_nothing(
    ended: object, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(lambda: sys.exit(ended)) == code  # type: ignore[arg-type]
    assert capsys.readouterr().err == ("no\n" if ended == "no" else "")
