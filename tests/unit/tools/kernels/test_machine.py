"""A guest's boot and report."""

import json
from pathlib import Path

import pytest

from tools.kernels.images import Image
from tools.kernels.machine import Outcome, kernel_parameters, qemu_command, read_report

RELEASE = "6.1.0-37-amd64"


def report(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "results"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


BOOT = {"step": "boot", "passed": True, "seconds": 20.5, "detail": "TCX"}


def test_steps_are_read_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    load = {"step": "load", "passed": False, "seconds": 3.0, "detail": "refused"}
    found = read_report(RELEASE, tmp_path / "console", report(tmp_path, BOOT, load, {"complexity": "6.1 a 1 2 3\n"}))
    assert dict(found.steps) == {"boot": Outcome(True, 20.5, "TCX"), "load": Outcome(False, 3.0, "refused")}
    assert found.complexity == "6.1 a 1 2 3\n"
    assert (found.release, found.console) == (RELEASE, tmp_path / "console")


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    found = read_report(RELEASE, tmp_path, report(tmp_path, BOOT, '{"step": "load", "pas'))
    assert list(found.steps) == ["boot"]


def test_bytes_that_are_no_text_are_no_reason_to_lose_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.write_bytes(b"\xff\xfe\n" + json.dumps(BOOT).encode() + b"\n")
    assert list(read_report(RELEASE, tmp_path, path).steps) == ["boot"]


def test_a_guest_that_never_spoke_reached_nothing(tmp_path: Path) -> None:
    found = read_report(RELEASE, tmp_path, tmp_path / "missing")
    assert (dict(found.steps), found.complexity) == ({}, "")


@pytest.mark.parametrize(("accept", "last"), [(False, "CILIA_STEPS=load,fuzz"), (True, "CILIA_ACCEPT=1")])
def test_the_guest_is_told_tree_python_and_steps(accept: bool, last: str) -> None:
    words = kernel_parameters(Path("/tree"), ["load", "fuzz"], accept=accept).split()
    assert words[0] == "console=ttyS0"
    assert "CILIA_TREE=/tree" in words
    assert any(word.startswith("CILIA_PYTHON=/") for word in words)
    assert words[-1] == last


def test_the_guest_sees_this_root_read_only_and_reports_on_the_second_port() -> None:
    image = Image(RELEASE, Path("/k"), Path("/i"))
    command = qemu_command(image, "a b", console=Path("/c"), results=Path("/r"))
    assert command[command.index("-kernel") + 1] == "/k"
    assert command[command.index("-initrd") + 1] == "/i"
    assert command[command.index("-append") + 1] == "a b"
    assert [command[at + 1] for at, word in enumerate(command) if word == "-serial"] == ["file:/c", "file:/r"]
    assert "readonly=on" in command[command.index("-virtfs") + 1]
