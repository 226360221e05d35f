"""The table and the JSON."""

import json

from tests.unit.tools.figures.trees import numbered, python
from tools.figures.figures import Figures, measure_sources
from tools.figures.layers import Contracts
from tools.figures.report import as_json, rows, table

SMALL = measure_sources(
    [python("def f():\n    pass\n"), python("f()\n", "tests/unit/table/test_one.py")], Contracts(kept=3, broken=1)
)


def test_every_figure_has_a_value_of_an_empty_tree() -> None:
    found = rows(Figures())
    assert found["files: median lines"] == ("0", "120")
    assert found["contracts kept"] == ("?", "")
    assert found["test : source, blanks left out"] == ("0.00", "1")


def test_values_are_those_of_the_tree() -> None:
    found = {name: value for name, (value, _) in rows(SMALL).items()}
    assert found["functions: longest"] == "2"
    assert (found["contracts kept"], found["contracts broken"]) == ("3", "1")
    assert found["test : source, blanks left out"] == "0.50"
    assert found["  library"] == "1 : 2 = 0.50"


def test_the_table_is_aligned_and_shows_a_base_before_today() -> None:
    head, *lines = table(SMALL, Figures()).splitlines()
    assert head.split() == ["before", "now", "limit"]
    (longest,) = [line for line in lines if line.startswith("functions: longest")]
    assert longest.split()[2:] == ["0", "2", "60"]
    assert longest.index("60") + 2 == len(head)
    assert table(SMALL).splitlines()[0].split() == ["now", "limit"]


def test_json_names_the_places_that_figures_are_made_of() -> None:
    long = python("def long():\n" + numbered(70, "    call"), "cilia/long.py")
    figures = measure_sources([long, python('"""Of it."""\n', "cilia/noun.py")])
    found = json.loads(as_json(figures, SMALL))
    assert [each["name"] for each in found["now"]["functions"]] == ["long"]
    assert found["now"]["openings"] == [["docstring", {"path": "cilia/noun.py", "line": 1, "text": "Of it."}]]
    assert found["base"]["contracts"] == {"kept": 3, "broken": 1}
    assert found["base"]["rows"]["functions: longest"] == "2"
