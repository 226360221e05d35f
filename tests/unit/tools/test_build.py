"""Compilation: of stale objects only, without warnings."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.build import OBJECTS, build_extension, build_objects, compile_bpf, is_stale

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
