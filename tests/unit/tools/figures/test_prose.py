"""Openings without a noun, and lines that are too wide."""

import pytest

from tests.unit.tools.figures.trees import c, python
from tools.figures.passages import Kind, Passage, passages
from tools.figures.prose import COLUMNS, lacks_noun, wide_lines
from tools.tree import Source


def passage(text: str, kind: Kind = Kind.DOCSTRING, lines: int = 1) -> Passage:
    return Passage("cilia/a.py", 1, kind, text, lines)


@pytest.mark.parametrize(
    "text",
    [
        "What a pod sends.",
        "Who asked.",
        "Of one step.",
        "Whether it is on.",
        "How many came.",
        "Where it is.",
        "Which one.",
        "When it came.",
        "Why it failed.",
        "Whose it is.",
        "From where it came.",
        "By which name.",
    ],
)
@pytest.mark.parametrize("kind", list(Kind))
def test_an_opening_that_announces_its_noun_lacks_it(text: str, kind: Kind) -> None:
    assert lacks_noun(passage(text, kind))
    assert lacks_noun(passage(text, kind, lines=3))


@pytest.mark.parametrize(
    "text", ["Packet of a pod.", "Official name.", "Whatever is left.", "From 1 to 7 bits, by a map's type.", ""]
)
def test_an_opening_with_a_noun_is_none_of_these(text: str) -> None:
    assert not lacks_noun(passage(text))


@pytest.mark.parametrize(
    "text", ["By name.", "In bytes.", "For the overlay.", "At most 7.", "On this node.", "To whom."]
)
def test_a_note_of_one_line_lacks_its_subject_behind_a_preposition(text: str) -> None:
    assert lacks_noun(passage(text, Kind.NOTE))
    assert not lacks_noun(passage(text, Kind.NOTE, lines=2))
    assert not lacks_noun(passage(text, Kind.COMMENT))


def wide(source: Source) -> list[int]:
    return list(wide_lines(source, passages(source)))


LONG = "x" * (COLUMNS - 3)


def test_prose_may_fill_the_columns_and_no_more() -> None:
    assert wide(python(f"# {LONG}x\n")) == []
    assert wide(python(f"# {LONG}xx\n")) == [1]


def test_lines_of_docstrings_count_each() -> None:
    assert wide(python(f'"""Short.\n\n{LONG}xxxx\n{LONG}\n{LONG}yyyy\n"""\n')) == [3, 5]


def test_a_comment_behind_code_may_be_as_wide_as_code() -> None:
    assert wide(python(f"call()  # {LONG}\n")) == []
    assert wide(c(f"int a; /* {LONG} */\n")) == []


def test_tabs_of_c_are_eight_columns_wide() -> None:
    text = "y" * (COLUMNS - 8 - 6)
    assert wide(Source("bpf/a.c", f"\t/* {text} */\n")) == []
    assert wide(Source("bpf/a.c", f"\t/* {text}y */\n")) == [1]


def test_lines_inside_a_comment_of_c_count_each() -> None:
    assert wide(c(f"/* short\n * {LONG}x\n */\n")) == [2]


def test_a_link_may_be_as_long_as_it_is() -> None:
    assert wide(python(f"# https://example.org/{LONG}\n")) == []
