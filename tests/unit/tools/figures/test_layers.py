"""Imports between modules, cycles of them, and how full rooms are."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tools.figures.trees import python
from tools.figures.layers import Contracts, contracts, cycles, imports, module_name, read_outcome, rooms

NAMES = st.sampled_from("abcde")


def test_a_package_is_imported_by_the_name_of_its_directory() -> None:
    assert module_name("cilia/bus.py") == "cilia.bus"
    assert module_name("cilia/table/__init__.py") == "cilia.table"


def test_imports_are_those_of_ours_wherever_they_stand() -> None:
    sources = [
        python("import cilia.b\nimport os\n", "cilia/a.py"),
        python("def f():\n    from cilia import c\n", "cilia/b.py"),
        python("from cilia.a import Thing\n", "cilia/c.py"),
        python("import cilia.a\n", "tests/d.py"),
    ]
    assert imports(sources) == {
        "cilia.a": frozenset({"cilia.b"}),
        "cilia.b": frozenset({"cilia.c"}),
        "cilia.c": frozenset({"cilia.a"}),
    }


def test_a_package_that_joins_modules_which_import_each_other_is_no_cycle() -> None:
    sources = [
        python("from cilia.table.shard import Shard\n", "cilia/table/__init__.py"),
        python("from cilia.table import wire\n", "cilia/table/shard.py"),
        python("", "cilia/table/wire.py"),
    ]
    assert cycles(imports(sources)) == []


def test_a_name_of_a_package_is_an_import_of_the_package() -> None:
    sources = [
        python("from cilia.table.shard import Shard\n", "cilia/table/__init__.py"),
        python("from cilia.table import Shard, wire\n", "cilia/table/shard.py"),
        python("", "cilia/table/wire.py"),
    ]
    assert cycles(imports(sources)) == [("cilia.table", "cilia.table.shard")]


def test_a_cycle_is_named_once_with_all_its_modules() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset("a")}
    assert cycles(graph) == [("a", "b", "c")]


@given(st.dictionaries(NAMES, st.frozensets(NAMES)))
def test_modules_share_a_cycle_exactly_if_each_reaches_the_other(graph: dict[str, frozenset[str]]) -> None:
    def reaches(start: str, goal: str) -> bool:
        seen, ahead = set[str](), [start]
        while ahead:
            for name in graph.get(ahead.pop(), frozenset()) - seen:
                seen.add(name)
                ahead.append(name)
        return goal in seen

    together = {(one, other) for group in cycles(graph) for one in group for other in group}
    assert together == {(one, other) for one in graph for other in graph if reaches(one, other) and reaches(other, one)}


def test_a_room_counts_the_modules_beside_its_init() -> None:
    paths = ("cilia/bus.py", "cilia/table/__init__.py", "cilia/table/shard.py", "cilia/table/wire.py", "tests/a.py")
    assert rooms(python("", path) for path in paths) == {"cilia": 1, "cilia/table": 2}


PROJECT = """
[tool.importlinter]
root_package = "house"
[[tool.importlinter.contracts]]
name = "cellar never imports roof"
type = "forbidden"
source_modules = ["house.cellar"]
forbidden_modules = ["house.roof"]
[[tool.importlinter.contracts]]
name = "roof never imports cellar"
type = "forbidden"
source_modules = ["house.roof"]
forbidden_modules = ["house.cellar"]
"""


def test_contracts_are_judged_in_the_tree_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "house").mkdir()
    (tmp_path / "house/__init__.py").touch()
    (tmp_path / "house/roof.py").touch()
    (tmp_path / "house/cellar.py").write_text("import house.roof\n")
    assert contracts(tmp_path) == Contracts(kept=1, broken=1)


def test_a_linter_that_comes_to_no_conclusion_gives_no_figure() -> None:
    assert read_outcome("Could not read any configuration.\n") is None
    assert read_outcome("a KEPT\n\nContracts: 12 kept, 0 broken.\n") == Contracts(12, 0)
