"""``python -m tools.abi``: writes what differs, and with ``--check`` only tells of it."""

import sys
from pathlib import Path

import pytest

from tools import abi


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of two generated files, one of them stale and one missing."""
    monkeypatch.setattr(abi, "ROOT", tmp_path)
    monkeypatch.setattr(abi, "read_btf", lambda root: None)
    monkeypatch.setattr(abi, "render", lambda btf: {"enums.py": "now\n", "maps.py": "maps\n", "structs.py": "same\n"})
    folder = tmp_path / abi.ABI
    folder.mkdir(parents=True)
    (folder / "enums.py").write_text("before\n")
    (folder / "structs.py").write_text("same\n")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["abi", *arguments])
    return abi.main()


def test_a_check_names_what_is_stale_or_missing_fails_and_writes_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--check") == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{abi.ABI}/{name}.py: differs from the headers; run make abi" for name in ("enums", "maps")
    ]
    assert (tree / "enums.py").read_text() == "before\n"
    assert not (tree / "maps.py").exists()


def test_writing_brings_all_up_to_date_so_that_a_check_passes(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [f"{abi.ABI}/{name}.py: written" for name in ("enums", "maps")]
    assert [(tree / name).read_text() for name in ("enums.py", "maps.py")] == ["now\n", "maps\n"]
    assert run(monkeypatch, "--check") == run(monkeypatch) == 0
    assert capsys.readouterr().out == ""


def test_a_file_that_is_as_it_should_be_is_not_touched(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (tree / "structs.py").stat().st_mtime_ns
    run(monkeypatch)
    assert (tree / "structs.py").stat().st_mtime_ns == before
