"""Figures of a tree, put together from its files."""

from pathlib import Path

import pytest

from tests.unit.tools.figures.trees import c, numbered, python
from tools.figures.__main__ import narrowed
from tools.figures.figures import Place, measure, measure_sources
from tools.figures.passages import Kind
from tools.figures.ratio import Area
from tools.tree import Source

TREE = [
    python('"""Bus."""\nimport cilia.calls\n', "cilia/bus.py"),
    python(
        '"""What calls are."""\n\n\ndef call():\n    try:\n        pass\n    except Exception:\n        pass\n',
        "cilia/calls.py",
    ),
    python("", "cilia/__init__.py"),
    c("/* Of nobody. */\nint a;\n"),
    python('"""Tests."""\nfrom cilia.bus import Bus\n', "tests/unit/test_bus.py"),
    python("try:\n    pass\nexcept Exception:\n    pass\n", "tests/unit/test_calls.py"),
]


def test_empty_files_have_no_size_and_tests_stand_apart() -> None:
    figures = measure_sources(TREE)
    assert figures.files == {"cilia/bus.py": 2, "cilia/calls.py": 8, "bpf/lib/one.h": 2}
    assert figures.test_files == {"tests/unit/test_bus.py": 2, "tests/unit/test_calls.py": 4}


def test_passages_are_counted_by_kind_and_those_without_noun_have_their_place() -> None:
    figures = measure_sources(TREE)
    assert dict(figures.passages) == {Kind.DOCSTRING: 3, Kind.COMMENT: 1}
    assert figures.openings == [
        (Kind.DOCSTRING, Place("cilia/calls.py", 1, "What calls are.")),
        (Kind.COMMENT, Place("bpf/lib/one.h", 1, "Of nobody.")),
    ]


def test_broad_handlers_count_in_the_source_only() -> None:
    assert measure_sources(TREE).broad_handlers == 1


def test_lines_of_all_areas_add_up() -> None:
    figures = measure_sources(TREE)
    assert figures.lines[Area.LIBRARY].source_filled == 8
    assert figures.lines[Area.DATAPATH].source_filled == 2
    assert (figures.total.source_filled, figures.total.tests_filled) == (10, 6)


def test_modules_are_counted_where_they_stand() -> None:
    assert dict(measure_sources(TREE).rooms) == {"cilia": 2}


def test_figures_do_not_depend_on_the_order_of_files() -> None:
    one, other = measure_sources(TREE), measure_sources(TREE[::-1])
    assert (one.files, one.lines, one.cycles, one.total) == (other.files, other.lines, other.cycles, other.total)


def test_a_directory_is_measured_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "cilia").mkdir()
    (tmp_path / "cilia/one.py").write_text(numbered(3))
    figures = measure(tmp_path)
    assert figures.files == {"cilia/one.py": 3}
    assert figures.contracts is None


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        ([], ["cilia/a.py:1: x", "bpf/b.h:2: y"]),
        (["bpf"], ["bpf/b.h:2: y"]),
        (["tests", "cilia/a"], ["cilia/a.py:1: x"]),
    ],
)
def test_faults_are_narrowed_to_paths_if_there_are_any(paths: list[str], kept: list[str]) -> None:
    assert narrowed(["cilia/a.py:1: x", "bpf/b.h:2: y"], paths) == kept


def test_files_that_do_not_parse_are_named() -> None:
    with pytest.raises(SyntaxError) as problem:
        measure_sources([Source("cilia/bad.py", "def (:\n")])
    assert problem.value.filename == "cilia/bad.py"
