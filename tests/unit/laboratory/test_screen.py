"""Styles and columns of what the demo prints."""

import sys

import pytest

from laboratory.demo.screen import Style, align, styled


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdout a terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("style", "code"), [(Style.RED, "31"), (Style.TITLE, "1;36")])
def test_a_style_is_ended_where_its_text_ends(style: Style, code: str) -> None:
    assert styled(style, "lost") == f"\x1b[{code}mlost\x1b[0m"


@pytest.mark.usefixtures("terminal")
def test_whoever_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled(Style.RED, "lost") == "lost"


def test_a_file_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert styled(Style.RED, "lost") == "lost"


@pytest.mark.usefixtures("terminal")
def test_columns_are_aligned_by_what_is_seen() -> None:
    rows = [("a", styled(Style.RED, "dropped"), "x"), ("longer", styled(Style.GREEN, "200 OK"), "y")]
    assert align(rows) == "a       \x1b[31mdropped\x1b[0m  x\nlonger  \x1b[32m200 OK\x1b[0m   y"


def test_rows_may_end_early_and_tables_be_empty() -> None:
    assert align([("a", "b"), ("longer",)]) == "a       b\nlonger"
    assert align([("a", "")]) == "a"
    assert align([]) == ""
