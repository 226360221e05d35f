"""Limits: kept, and broken by name and place."""

import pytest

from tests.unit.tools.figures.trees import numbered, python
from tools.figures.figures import measure_sources
from tools.figures.limits import LARGE_FILE, LONGEST_FUNCTION, MEDIAN_FILE, faults
from tools.tree import Source


def found(*sources: Source) -> list[str]:
    return list(faults(measure_sources(sources)))


def test_an_empty_tree_breaks_nothing() -> None:
    assert found() == []


def function(lines: int) -> str:
    return "def long():\n" + numbered(lines - 1, "    call")


def test_a_function_may_be_as_long_as_the_limit() -> None:
    (fault,) = found(python(function(LONGEST_FUNCTION + 1)), beside())
    assert fault == f"cilia/one.py:1: long has {LONGEST_FUNCTION + 1} lines, more than {LONGEST_FUNCTION}"
    assert found(python(function(LONGEST_FUNCTION)), beside()) == []


def beside() -> Source:
    """Return tests enough for a small source, which break no limit themselves."""
    return Source("tests/unit/test_one.py", numbered(MEDIAN_FILE, "check"))


def test_half_of_the_files_may_be_longer_than_the_median_and_one_in_twenty_large() -> None:
    small = [Source(f"tests/a{number}.py", "x()\n") for number in range(19)]
    assert found(*small, Source("tests/b.py", numbered(LARGE_FILE + 1))) == []
    (fault,) = found(*small[:18], Source("tests/b.py", numbered(LARGE_FILE + 1)))
    assert fault == f"95% of the test files have up to {LARGE_FILE + 1} lines, more than {LARGE_FILE}"


@pytest.mark.parametrize("path", ["tests/a.py", "laboratory/a.py"])
def test_the_file_in_the_middle_is_judged_of_tests_and_of_the_rest(path: str) -> None:
    assert found(Source(path, numbered(MEDIAN_FILE))) == []
    (fault,) = found(Source(path, numbered(MEDIAN_FILE + 1)))
    assert f"files have up to {MEDIAN_FILE + 1} lines" in fault


def test_fewer_test_lines_than_source_lines_are_told() -> None:
    assert found(Source("cilia/a.py", "x()\n" * 4), Source("tests/a.py", "y()\n" * 3)) == [
        "test : source lines are 0.75, less than 1"
    ]
    assert found(Source("cilia/a.py", "x()\n" * 4), Source("tests/a.py", "y()\n" * 4)) == []


def test_copies_are_named_at_both_places() -> None:
    (fault,) = found(Source("bench/a.py", numbered(11)), Source("tests/a.py", "first()\n" + numbered(11)))
    assert fault == "bench/a.py:1: and tests/a.py:2 share 11 lines of code, more than 10"


def test_openings_of_docstrings_notes_and_comments_are_told() -> None:
    source = python('"""What it is."""\nSIZE = 1\n"""Of one."""\n# Of nobody.\n', "bench/a.py")
    assert found(source) == [
        "bench/a.py:1: this docstring opens without its noun: What it is.",
        "bench/a.py:3: this note opens without its noun: Of one.",
        "bench/a.py:4: this comment opens without its noun: Of nobody.",
    ]
    assert len(measure_sources([source]).openings) == 3


def test_wide_prose_is_told_with_its_line() -> None:
    assert found(Source("bench/a.py", "x = 1\n# " + "y" * 99 + "\n")) == ["bench/a.py:2: prose beyond column 100"]


def test_modules_that_import_each_other_are_told() -> None:
    sources = Source("cilia/a.py", "import cilia.b\n"), Source("cilia/b.py", "import cilia.a\n"), beside()
    assert found(*sources) == ["modules import each other: cilia.a, cilia.b"]
