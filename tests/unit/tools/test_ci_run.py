"""``.ci/run`` with stand-ins for what it runs: its stages, its exit code, its last line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKE = """#!/bin/sh
echo "make $*" >>calls
[ "$1" = test ] && echo "== 7 passed in 12.34s (0:00:12) ==" || echo "other: 1 passed in 9.99s"
[ "$1" != "$FAILING" ]
"""
LEFTOVERS = """#!/bin/sh
echo "leftovers $#" >>calls
[ "$FAILING" != leftovers ] || [ $# = 0 ]
"""
OTHER = """#!/bin/sh
echo "$(basename "$0") $*" >>calls
case "$*" in make*) exec "$@";; esac
[ "$(basename "$0")" != "$FAILING" ]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "bin/make": MAKE,
        "tools/leftovers": LEFTOVERS,
        "tools/busy": OTHER,
        ".venv/bin/python": OTHER,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    return tmp_path


def run(tree: Path, failing: str = "") -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PATH": f"{tree}/bin:{os.environ['PATH']}", "FAILING": failing}
    command = [str(tree / ".ci/run")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_stages_come_in_order_and_leftovers_are_looked_for_after_each(tree: Path) -> None:
    assert run(tree).returncode == 0
    calls = (tree / "calls").read_text().splitlines()
    assert calls == [
        "leftovers 0",
        "make test",
        "leftovers 1",
        "busy make test-cluster",
        "make test-cluster",
        "leftovers 1",
        "make check",
        "leftovers 1",
        "python -m tests.cluster.scenarios",
        "leftovers 1",
        "python -m tests.cluster.kubernetes",
        "leftovers 1",
    ]


@pytest.mark.parametrize("failing", ["", "test", "test-cluster", "check", "leftovers", "python"])
def test_whatever_fails_all_stages_run_and_the_tests_closing_line_is_the_last(tree: Path, failing: str) -> None:
    ended = run(tree, failing)
    assert ended.returncode == (1 if failing else 0)
    assert ended.stdout.splitlines()[-1] == "== 7 passed in 12.34s (0:00:12) =="
    assert "make check" in (tree / "calls").read_text()


def test_tests_that_did_not_run_to_their_end_are_no_success(tree: Path) -> None:
    (tree / "bin/make").write_text("#!/bin/sh\n")
    ended = run(tree)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (1, "the tests did not run to their end")
