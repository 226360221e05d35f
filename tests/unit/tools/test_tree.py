"""The files that count, of a checkout and of a revision."""

import subprocess
from pathlib import Path

import pytest

from tools.tree import Source, checked_out, read_tree

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")


def write(root: Path, *paths: str, text: str = "x = 1\n") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *IDENTITY, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    write(tmp_path, "cilia/one.py", "cilia/gone.py", "README.md")
    write(tmp_path, ".gitignore", text="build/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_code_of_python_and_c_and_scripts_of_tests_count(tmp_path: Path) -> None:
    write(tmp_path, "cilia/a.py", "bpf/a.c", "bpf/lib/a.h", "tests/unit/a.txt", "bench/a.py", "laboratory/a.py")
    write(tmp_path, "bpf/complexity.txt", "tools/bootstrap", "docs/a.py", "setup.py", "cilia/__pycache__/a.py")
    found = [source.path for source in read_tree(tmp_path)]
    assert found == ["bench/a.py", "bpf/a.c", "bpf/lib/a.h", "cilia/a.py", "laboratory/a.py", "tests/unit/a.txt"]


def test_generated_files_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "cilia/abi/structs.py", "cilia/abi/maps.py", "cilia/abi/enums.py", "cilia/abi/codec.py")
    assert [source.path for source in read_tree(tmp_path)] == ["cilia/abi/codec.py"]


def test_new_files_of_a_checkout_count_and_ignored_or_deleted_ones_do_not(checkout: Path) -> None:
    write(checkout, "cilia/new.py", "cilia/build/made.py")
    (checkout / "cilia/gone.py").unlink()
    assert [source.path for source in read_tree(checkout)] == ["cilia/new.py", "cilia/one.py"]


def test_a_revision_is_read_as_it_was_committed_and_its_copy_goes(checkout: Path) -> None:
    write(checkout, "cilia/one.py", text="changed = 2\n")
    with checked_out("HEAD", checkout) as root:
        assert [source.path for source in read_tree(root)] == ["cilia/gone.py", "cilia/one.py"]
        assert (root / "cilia/one.py").read_text() == "x = 1\n"
    assert not root.exists()


def test_a_directory_stands_for_itself(checkout: Path, tmp_path: Path) -> None:
    with checked_out(str(checkout)) as root:
        assert root == checkout.resolve()
    assert checkout.exists()


def test_an_unknown_revision_is_refused(checkout: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError), checked_out("no-such-revision", checkout):
        pass


@pytest.mark.parametrize(("text", "lines"), [("", []), ("a\n", ["a"]), ("a\n\nb", ["a", "", "b"]), ("\n", [""])])
def test_lines_are_counted_with_and_without_a_last_end(text: str, lines: list[str]) -> None:
    assert Source("cilia/a.py", text).lines == lines


@pytest.mark.parametrize("path", ["cilia/a.py", "services/a/b.py", "bpf/a.c", "tools/a.py"])
def test_what_ships_and_builds_it_is_source(path: str) -> None:
    assert Source(path, "").is_source


@pytest.mark.parametrize("path", ["tests/a.py", "laboratory/a.py", "bench/a.py", "toolshed/a.py"])
def test_tests_laboratory_and_bench_are_not_source(path: str) -> None:
    assert not Source(path, "").is_source
