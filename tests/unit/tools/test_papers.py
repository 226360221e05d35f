"""Names in the papers lead somewhere."""

from pathlib import Path

import pytest

from tools.papers import NO_PATHS, PAPERS, Tree, dead_names, expand, read_names
from tools.tree import ROOT

TREE = Tree(
    frozenset(
        {
            "README.md",
            "docs/policy.md",
            "cilia/bus.py",
            "cilia/table/shard.py",
            "bpf/cilia.c",
            "bpf/lib/nat.h",
            "bench/policy.py",
            "tests/bpf/fuzz/__main__.py",
            "tests/cluster/test_faults.py",
        }
    ),
    frozenset({"check", "test"}),
)


def dead(text: str, directory: str = "") -> list[str]:
    return list(dead_names(text, TREE, directory))


@pytest.mark.parametrize(
    "text",
    [
        "`cilia/bus.py` and `cilia/table/`, `bpf/lib`",
        "`test_faults.py`",
        "`python -m bench.policy`, `python -m tests.bpf.fuzz --packets 3`",
        "`python -m pytest tests/cluster -k x`",
        "`make check`",
        "[docs](docs/policy.md), [a site](https://example.org/cilia/x.py)",
        "[a part](docs/policy.md#rules)",
        "`cilia/{bus,table/shard}.py` or `bpf/*/*.h`",
        "cilia/gone.py in prose is no name",
        "`80/TCP`, `shop/web`, `kubernetes.io/name`, `/run/netns`",
        "```\ncilia/bus.py   the bus\n```",
    ],
)
def test_names_that_exist_and_words_that_are_none_pass(text: str) -> None:
    assert dead(text) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("`cilia/gone.py`", "cilia/gone.py"),
        ("`cilia/gone/`", "cilia/gone/"),
        ("see (`bpf/lib/gone.h`)", "bpf/lib/gone.h"),
        ("`test_gone.py`", "test_gone.py"),
        ("`python -m bench.gone`", "bench.gone"),
        ("`python -m tests.cluster`", "tests.cluster"),
        ("`make gone`", "gone"),
        ("[x](docs/gone.md)", "docs/gone.md"),
        ("`cilia/{bus,gone}.py`", "cilia/gone.py"),
        ("`cilia/*.h`", "cilia/*.h"),
        ("```\ncilia/gone.py   the bus\n```", "cilia/gone.py"),
    ],
)
def test_names_that_lead_nowhere_are_told(text: str, name: str) -> None:
    assert dead(text) == [name]


def test_links_are_relative_to_their_paper_and_paths_to_the_root() -> None:
    assert dead("[x](policy.md) `cilia/bus.py`", "docs") == []
    assert dead("[x](docs/policy.md)", "docs") == ["docs/policy.md"]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("a/b.py", ["a/b.py"]),
        ("a/{b,c}.py", ["a/b.py", "a/c.py"]),
        ("{a,b}/{c,d}", ["a/c", "a/d", "b/c", "b/d"]),
        ("{a}", ["{a}"]),
    ],
)
def test_braces_stand_for_each_of_their_parts(word: str, words: list[str]) -> None:
    assert expand(word) == words


def papers() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in PAPERS for path in ROOT.glob(pattern))


@pytest.mark.parametrize("paper", papers())
def test_every_name_in_the_papers_exists(paper: str) -> None:
    names = read_names(ROOT)
    assert list(dead_names((ROOT / paper).read_text(), names, str(Path(paper).parent))) == []


def test_what_looks_like_a_path_and_is_none_is_still_named_somewhere() -> None:
    texts = "".join((ROOT / paper).read_text() for paper in papers())
    assert all(name in texts for name in NO_PATHS)
