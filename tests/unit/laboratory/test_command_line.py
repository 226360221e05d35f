"""Commands from the command server behave as those that a shell starts."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laboratory.command_line import cilia

MISTAKEN = '{"nobody": 1}'


@pytest.mark.parametrize(
    "arguments",
    [
        ("version", "-o", "json"),
        ("--help",),
        ("policy", "apply"),
        ("cluster", "up", "--name", "A b"),
        ("no-such-noun",),
    ],
    ids=["succeeds", "prints its help", "is used wrongly", "refuses a name", "is unknown"],
)
def test_a_command_says_and_returns_what_it_does_in_a_shell(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "cilia.commands.cli", *arguments]
    ours, real = cilia(*arguments), subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ours.returncode, ours.stdout, ours.stderr) == (real.returncode, real.stdout, real.stderr)


def test_a_command_reads_its_input() -> None:
    run = cilia("policy", "verdicts", "-f", "-", text=MISTAKEN)
    assert run.returncode == 2
    assert "nobody" in run.stderr


def test_a_command_has_the_environment_and_the_directory_that_it_is_given(tmp_path: Path) -> None:
    assert "no cluster 'elsewhere'" in cilia("status", environment={"CILIA_CLUSTER": "elsewhere"}).stderr
    (tmp_path / "p.yaml").write_text(MISTAKEN)
    assert "nobody" in cilia("policy", "verdicts", "-f", "p.yaml", directory=tmp_path).stderr


def test_commands_run_side_by_side() -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda number: cilia("--cluster", f"no-{number}", "status"), range(16)))
    assert all(f"'no-{number}'" in run.stderr for number, run in enumerate(runs))


def test_a_command_that_does_not_end_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never-written")
    with pytest.raises(subprocess.TimeoutExpired):
        cilia("policy", "verdicts", "-f", str(tmp_path / "never-written"), timeout_seconds=0.2)
    assert json.loads(cilia("version", "-o", "json").stdout), "others still run"
