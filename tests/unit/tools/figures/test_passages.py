"""Prose as it is found between code."""

from tests.unit.tools.figures.trees import c, python
from tools.figures.passages import Kind, Passage, passages
from tools.tree import Source


def found(source: Source) -> list[tuple[int, Kind, str]]:
    return sorted((each.line, each.kind, each.text) for each in passages(source))


def test_docstrings_are_those_of_modules_classes_and_functions() -> None:
    source = python(
        '''
        """Module."""


        class Thing:
            """Class."""

            async def method(self):
                """Do it,

                and more.
                """
                "no docstring"
        '''
    )
    assert found(source) == [
        (1, Kind.DOCSTRING, "Module."),
        (5, Kind.DOCSTRING, "Class."),
        (8, Kind.DOCSTRING, "Do it, and more."),
    ]
    (method,) = [each for each in passages(source) if each.line == 8]
    assert method.lines == 4


def test_notes_stand_behind_attributes_and_constants() -> None:
    source = python(
        '''
        """Module."""
        SIZE = 1
        """Size in bytes."""
        NAME: str
        """Name."""
        print()
        """Nothing."""


        class Thing:
            size: int
            """Size of a thing."""
        '''
    )
    assert [(line, text) for line, kind, text in found(source) if kind is Kind.NOTE] == [
        (3, "Size in bytes."),
        (5, "Name."),
        (12, "Size of a thing."),
    ]


def test_lines_of_comments_below_each_other_are_one_passage() -> None:
    source = python(
        """
        # One sentence
        # that goes on.

        # Another one.
        x = 1  # Behind code,
        # not its end.
        """
    )
    assert found(source) == [
        (1, Kind.COMMENT, "One sentence that goes on."),
        (4, Kind.COMMENT, "Another one."),
        (5, Kind.COMMENT, "Behind code, not its end."),
    ]


def test_comments_behind_code_on_lines_below_each_other_are_passages_of_their_own() -> None:
    assert found(python("a = 1  # one\nb = 2  # two\n")) == [(1, Kind.COMMENT, "one"), (2, Kind.COMMENT, "two")]


def test_what_machines_read_is_no_prose() -> None:
    assert found(python("#!/bin/sh\nx = f()  # type: ignore[misc]\ny = 1  # noqa: E501\n")) == []
    assert found(c("/* SPDX-License-Identifier: GPL-2.0 */\n")) == []


def test_a_hash_in_a_string_is_no_comment() -> None:
    assert found(python("x = '# no comment'\n")) == []


def test_comments_of_c_lose_their_marks() -> None:
    source = c(
        """
        /* One line. */
        int a; /* behind code */
        /* Two
         * lines. */
        // Another style.
        const char *s = "/* no comment */";
        """
    )
    assert list(passages(source)) == [
        Passage("bpf/lib/one.h", 1, Kind.COMMENT, "One line.", 1),
        Passage("bpf/lib/one.h", 2, Kind.COMMENT, "behind code", 1),
        Passage("bpf/lib/one.h", 3, Kind.COMMENT, "Two lines.", 2),
        Passage("bpf/lib/one.h", 5, Kind.COMMENT, "Another style.", 1),
    ]


def test_scripts_hold_no_prose() -> None:
    assert found(Source("tests/unit/a.txt", "# remark\n")) == []
