"""Compilation: of stale objects only, without warnings."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import build
from tools.build import (
    OBJECTS,
    ROOT,
    build_extension,
    build_objects,
    compile_bpf,
    include_flags,
    is_stale,
)

PROGRAM = '__attribute__((section("tc"), used)) int pass(void)\n{\n\treturn 0;\n}\n'


def touch(path: Path, seconds: int) -> Path:
    """Give a file, made if missing, a time of its last change."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (seconds, seconds))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree with one program, whose sources are old."""
    for path, text in (("bpf/one.c", PROGRAM), ("bpf/lib/a.h", ""), ("tools/build.py", "")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        touch(tmp_path / path, 1000)
    return tmp_path


def test_a_missing_target_is_stale(tmp_path: Path) -> None:
    assert is_stale(tmp_path / "target", [])
    assert is_stale(tmp_path / "target", [touch(tmp_path / "source", 1)])


@given(target=st.integers(1, 9), sources=st.lists(st.integers(1, 9), max_size=4))
def test_a_target_is_stale_once_a_source_is_newer(
    tmp_path_factory: pytest.TempPathFactory, target: int, sources: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("times")
    paths = [touch(directory / f"source{number}", seconds) for number, seconds in enumerate(sources)]
    assert is_stale(touch(directory / "target", target), paths) == any(seconds > target for seconds in sources)


def test_an_object_is_compiled_once_until_a_source_changes(tree: Path) -> None:
    target = tree / OBJECTS / "one.o"
    assert build_objects(tree) == [target]
    assert build_objects(tree) == []
    for source in ("bpf/one.c", "bpf/lib/a.h", "tools/build.py"):
        touch(target, 2000)
        touch(tree / source, 3000)
        assert build_objects(tree) == [target], source
        touch(tree / source, 1000)
    assert build_objects(tree, force=True) == [target]


def test_an_object_carries_types_and_no_other_debugging(tree: Path) -> None:
    build_objects(tree)
    headers = subprocess.run(
        ["llvm-readelf", "-S", "-W", tree / OBJECTS / "one.o"], check=True, capture_output=True, text=True
    ).stdout
    assert ".BTF" in headers
    assert ".debug_info" not in headers


def test_a_warning_fails_and_leaves_the_object_that_was_there(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (target,) = build_objects(tree)
    before = target.read_bytes()
    (tree / "bpf/one.c").write_text(PROGRAM.replace("return 0", "int unused; return 0"))
    with pytest.raises(subprocess.CalledProcessError):
        compile_bpf(tree / "bpf/one.c", target, tree)
    assert target.read_bytes() == before
    assert "unused" in capfd.readouterr().err


def test_the_binding_is_left_alone_while_it_is_newer_than_its_sources(tmp_path: Path) -> None:
    touch(tmp_path / "cilia/datapath/native/ring.c", 1000)
    touch(tmp_path / "cilia/datapath/_libbpf.abi3.so", 2000)
    assert build_extension(tmp_path) == []


def test_a_binding_that_does_not_compile_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    native = tmp_path / "cilia/datapath/native"
    for name, text in (("native.h", ""), ("one.c", "int broken"), ("libbpf.cdef", ""), ("cilia.cdef", "")):
        touch(native / name, 3000)
        (native / name).write_text(text)
    target = touch(tmp_path / "cilia/datapath/_libbpf.abi3.so", 1000)
    target.write_text("as it was")
    with pytest.raises(Exception, match="Error"):
        build_extension(tmp_path, force=True)
    assert target.read_text() == "as it was"
    assert [path.name for path in target.parent.glob("*.so*")] == [target.name]


def test_the_command_prints_what_it_compiled_and_nothing_when_all_is_new(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forced: list[bool] = []

    def objects(*, force: bool) -> list[Path]:
        forced.append(force)
        return [ROOT / OBJECTS / "one.o"] if force else []

    monkeypatch.setattr(build, "build_objects", objects)
    monkeypatch.setattr(build, "build_extension", lambda *, force: [])
    monkeypatch.setattr(sys, "argv", ["build.py"])
    assert (build.main(), capsys.readouterr().out) == (0, "")
    monkeypatch.setattr(sys, "argv", ["build.py", "--force"])
    assert (build.main(), capsys.readouterr().out) == (0, f"{OBJECTS}/one.o\n")
    assert forced == [False, True]


def test_the_command_fails_with_the_compilers_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*, force: bool) -> list[Path]:
        raise subprocess.CalledProcessError(3, ["clang", "-c", Path("bpf/one.c")])

    monkeypatch.setattr(build, "build_objects", refuse)
    monkeypatch.setattr(sys, "argv", ["build.py"])
    assert build.main() == 1
    assert capsys.readouterr().err == "build: clang -c bpf/one.c: exit 3\n"


@pytest.mark.parametrize("asked", ["", "1"])
def test_a_wheel_is_bound_to_the_platform_and_carries_the_laboratory_if_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str
) -> None:
    built: list[Path] = []
    monkeypatch.setattr(build, "build_objects", built.append)
    monkeypatch.setattr(build, "build_extension", built.append)
    monkeypatch.setenv("CILIA_LABORATORY", asked)
    data: dict[str, Any] = {"force_include": {}}
    hook = build.CustomBuildHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")  # type: ignore[arg-type]
    hook.initialize("standard", data)
    assert built == [tmp_path, tmp_path]
    assert (data["pure_python"], data["infer_tag"]) == (False, True)
    assert data["force_include"] == ({str(tmp_path / "laboratory"): "laboratory"} if asked else {})


def test_headers_are_ours_and_the_compilers_own_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = f"-I{tmp_path / 'bpf'}"
    assert include_flags(tmp_path)[0] == ours
    monkeypatch.setattr("tools.build.shutil.which", lambda name: None)
    assert include_flags(tmp_path) == [ours]
