"""Test lines for each source line, area by area."""

import pytest

from tests.unit.tools.figures.trees import python
from tools.figures.ratio import Area, Lines, area_of_source, area_of_test, count
from tools.tree import Source


@pytest.mark.parametrize(
    ("path", "area"),
    [
        ("services/agent/flows/events.py", Area.AGENT),
        ("services/policy/store.py", Area.POLICY),
        ("cilia/policy/engine/rules.py", Area.POLICY),
        ("services/ipam/pools.py", Area.SERVICES),
        ("cilia/commands/cli.py", Area.COMMANDS),
        ("cilia/contracts/ids.py", Area.COMMANDS),
        ("cilia/datapath/maps.py", Area.DATAPATH),
        ("bpf/lib/nat.h", Area.DATAPATH),
        ("cilia/bus.py", Area.LIBRARY),
        ("tools/build.py", Area.TOOLS),
        ("laboratory/demo.py", Area.WHOLE),
    ],
)
def test_an_area_is_the_narrowest_directory_that_holds_a_file(path: str, area: Area) -> None:
    assert area_of_source(path) is area


@pytest.mark.parametrize(
    ("path", "area"),
    [
        ("tests/unit/agent/policy/test_plan.py", Area.AGENT),
        ("tests/unit/policy/test_engine.py", Area.POLICY),
        ("tests/unit/recorder/test_store.py", Area.SERVICES),
        ("tests/bpf/fuzz/model.py", Area.DATAPATH),
        ("tests/cluster/agent/test_agent.py", Area.AGENT),
        ("tests/cluster/test_faults.py", Area.WHOLE),
        ("tests/unit/reconcile/full.txt", Area.LIBRARY),
        ("tests/unit/notes.txt", Area.WHOLE),
    ],
)
def test_directories_tell_what_a_test_is_about(path: str, area: Area) -> None:
    assert area_of_test(Source(path, "")) is area


def test_imports_tell_where_directories_do_not() -> None:
    text = "from cilia.bus import Bus\nfrom cilia.policy.engine import rules\nfrom cilia.policy.errors import Bad\n"
    assert area_of_test(python(text, "tests/property/test_a.py")) is Area.POLICY


def test_a_test_that_imports_nothing_of_ours_belongs_to_the_whole() -> None:
    assert area_of_test(python("import os\nfrom laboratory.pod import Pod\n", "tests/unit/test_a.py")) is Area.WHOLE


def test_blank_lines_count_in_one_figure_and_not_in_the_other() -> None:
    counted = count(
        [
            Source("cilia/bus.py", "a\n\nb\n"),
            Source("tests/unit/table/test_a.py", "a = 1\n\n\nb = 2\nc = 3\n"),
            Source("laboratory/demo.py", "a\n"),
            Source("bench/a.py", "a\n"),
        ]
    )
    assert counted[Area.LIBRARY] == Lines(source=3, tests=5, source_filled=2, tests_filled=3)
    assert counted[Area.LIBRARY].ratio == 1.5
    assert sum(counted.values(), Lines()) == counted[Area.LIBRARY]


def test_an_area_without_source_has_no_ratio() -> None:
    assert Lines(tests=4, tests_filled=4).ratio == 0.0
