"""``python -m tools.figures``: a table, JSON, or what breaks a limit."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.figures import __main__ as command

FAULTS = ["cilia/one.py: 400 lines", "services/two.py:7: function too long", "tests: fewer lines than the source"]


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that are the name of the tree that they are of."""
    monkeypatch.setattr(command, "measure", lambda root: Path(root).name)
    monkeypatch.setattr(command, "faults", lambda figures: FAULTS)
    monkeypatch.setattr(command, "ROOT", Path("/now"))
    monkeypatch.setattr(command, "table", lambda now, base: f"table of {now} and {base}\n")
    monkeypatch.setattr(command, "as_json", lambda now, base: json.dumps([now, base]))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["figures", *arguments])
    return command.main()


def test_a_check_prints_every_fault_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--check") == 1
    assert capsys.readouterr().out.splitlines() == [f"figures: {fault}" for fault in FAULTS]


@pytest.mark.parametrize(("paths", "found"), [(["services"], 1), (["cilia", "services"], 2), (["bench"], 0)])
def test_a_check_of_paths_tells_only_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], paths: list[str], found: int
) -> None:
    assert run(monkeypatch, "--check", *paths) == bool(found)
    assert len(capsys.readouterr().out.splitlines()) == found


def test_a_tree_without_faults_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "faults", lambda figures: [])
    assert run(monkeypatch, "--check") == 0
    assert capsys.readouterr().out == ""


def test_figures_of_a_base_are_those_of_its_own_tree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def checked_out(revision: str) -> Iterator[Path]:
        yield Path("/scratch") / revision

    monkeypatch.setattr(command, "checked_out", checked_out)
    assert run(monkeypatch) == run(monkeypatch, "--base", "v1") == run(monkeypatch, "--json", "--base", "v1") == 0
    assert capsys.readouterr().out == 'table of now and None\ntable of now and v1\n["now", "v1"]'
