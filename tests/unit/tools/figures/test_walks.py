"""Walks of a page: their files, helpers and numbers."""

import pytest

from tests.unit.tools.figures.trees import numbered, python
from tools.figures.figures import measure_sources
from tools.figures.limits import LONGEST_WALK, faults
from tools.figures.walks import PAGE, Step, Walk, walks, wrong_steps

FIRST = """# Page
| `make` | no walk: `cilia/none.py` |
## Walks
### A pod
| | file | does |
|---|---|---|
| 1 | `cilia/a.py` | begins (`cilia/helper.py`) |
| 2 | `bpf/b.h` or `bpf/c.h` | ends |

A drop ends in `bpf/drop.h`.

### An event
| 1 | `bpf/b.h` | begins |
## Elsewhere
`cilia/away.py`
"""
THERE = {"cilia/a.py", "cilia/helper.py", "bpf/b.h", "bpf/c.h", "bpf/drop.h"}


def wrong(page: str) -> list[tuple[int, str]]:
    return [each for walk in walks(page) for each in wrong_steps(walk, THERE.__contains__)]


def test_a_walk_has_a_row_per_step_and_lines_beside_it() -> None:
    pod, event = walks(FIRST)
    assert pod == Walk(
        "A pod",
        (
            Step(7, 1, ("cilia/a.py",), ("cilia/helper.py",)),
            Step(8, 2, ("bpf/b.h", "bpf/c.h"), ()),
            Step(10, None, (), ("bpf/drop.h",)),
        ),
    )
    assert (pod.length, event.name, event.length) == (2, "An event", 1)
    assert wrong(FIRST) == []


@pytest.mark.parametrize(
    ("before", "after", "line", "said"),
    [
        ("`cilia/a.py`", "`cilia/gone.py`", 7, "there is no cilia/gone.py"),
        ("(`cilia/helper.py`)", "(`cilia/gone.py`)", 7, "there is no cilia/gone.py"),
        ("`bpf/drop.h`", "`bpf/gone.h`", 10, "there is no bpf/gone.h"),
        ("| 2 |", "| 3 |", 8, "step 3 should be 2"),
        ("`bpf/b.h` or", "`cilia/a.py` or", 8, "cilia/a.py is passed twice"),
    ],
)
def test_files_that_are_not_there_or_passed_twice_are_told(before: str, after: str, line: int, said: str) -> None:
    assert wrong(FIRST.replace(before, after, 1)) == [(line, said)]


def test_a_walk_through_too_many_files_breaks_a_limit() -> None:
    rows = "".join(f"| {number} | `cilia/f{number}.py` | |\n" for number in range(1, LONGEST_WALK + 2))
    sources = [python(numbered(1), f"cilia/f{number}.py") for number in range(1, LONGEST_WALK + 2)]
    tests = python(numbered(LONGEST_WALK + 1, "check"), "tests/one.py")
    figures = measure_sources([*sources, tests], page=f"### A pod\n{rows}| 99 | `cilia/f1.py` | |\n")
    assert list(faults(figures)) == [
        f"{PAGE}: 'A pod' passes {LONGEST_WALK + 2} files, more than {LONGEST_WALK}",
        f"{PAGE}:{LONGEST_WALK + 3}: step 99 should be {LONGEST_WALK + 2}",
        f"{PAGE}:{LONGEST_WALK + 3}: cilia/f1.py is passed twice",
    ]
