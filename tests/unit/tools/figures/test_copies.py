"""Pairs of copies."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tools.figures.trees import c, numbered, python
from tools.figures.copies import Copy, code_lines, copies


def test_runs_up_to_the_limit_are_no_copies() -> None:
    one, other = python(numbered(10) + "one()\n", "cilia/a.py"), python(numbered(10) + "two()\n", "cilia/b.py")
    assert list(copies([one, other])) == []


def test_a_run_is_told_once_and_as_long_as_it_gets() -> None:
    one = python("before()\n" + numbered(14), "cilia/a.py")
    other = python(numbered(14) + "after()\n", "tests/b.py")
    assert list(copies([one, other])) == [Copy("cilia/a.py", 2, "tests/b.py", 1, 14)]


def test_blanks_comments_imports_and_indentation_make_no_difference() -> None:
    body = numbered(11).splitlines()
    one = python("import os\n" + "\n".join(body), "cilia/a.py")
    other = python("if True:\n" + "\n\n    # remark\n".join(f"    {line}" for line in body), "cilia/b.py")
    (copy,) = copies([one, other])
    assert (copy.first_line, copy.second_line, copy.lines) == (2, 2, 11)


def test_a_file_may_repeat_itself_but_not_overlap() -> None:
    same = python("same()\n" * 21, "cilia/a.py")
    assert list(copies([same])) == []
    twice = python(numbered(11) + "between()\n" + numbered(11), "cilia/a.py")
    assert list(copies([twice])) == [Copy("cilia/a.py", 1, "cilia/a.py", 13, 11)]


def test_two_runs_of_the_same_pair_are_two_copies() -> None:
    one = python(numbered(11) + "x()\n" + numbered(11, "other"), "cilia/a.py")
    two = python(numbered(11) + "y()\n" + numbered(11, "other"), "cilia/b.py")
    assert [(each.first_line, each.lines) for each in copies([one, two])] == [(1, 11), (13, 11)]


def test_three_copies_are_three_pairs() -> None:
    files = [python(numbered(12), f"cilia/{name}.py") for name in "abc"]
    assert [(each.first, each.second) for each in copies(files)] == [
        ("cilia/a.py", "cilia/b.py"),
        ("cilia/a.py", "cilia/c.py"),
        ("cilia/b.py", "cilia/c.py"),
    ]


def test_equal_imports_and_comments_are_no_copies() -> None:
    text = "".join(f"import module_{number}  # remark\n# remark {number}\n" for number in range(20))
    assert list(copies([python(text, "cilia/a.py"), python(text, "cilia/b.py")])) == []


def test_lines_of_code_keep_their_numbers() -> None:
    source = python('"""Module."""\n\nfrom a import (\n    b,\n)\n\nx = 1  # kept\n# gone\ny = 2\n')
    assert code_lines(source) == [(7, "x = 1  # kept"), (9, "y = 2")]


def test_includes_and_comments_of_c_are_left_out() -> None:
    source = c("/* two\n * lines */\n#include <a.h>\nint a; /* kept */\n\nint b;\n")
    assert code_lines(source) == [(4, "int a; /* kept */"), (6, "int b;")]


@given(st.lists(st.sampled_from("abc"), max_size=14), st.lists(st.sampled_from("abc"), max_size=14))
def test_copies_are_exactly_the_longest_runs_that_two_files_share(one: list[str], other: list[str]) -> None:
    sources = [
        python("".join(f"{name}()\n" for name in names), f"cilia/{at}.py") for at, names in enumerate((one, other))
    ]
    across = {
        (each.first_line - 1, each.second_line - 1, each.lines)
        for each in copies(sources, longest=2)
        if each.first != each.second
    }
    assert across == {run for run in shared_runs(one, other) if run[2] > 2}


def shared_runs(one: list[str], other: list[str]) -> set[tuple[int, int, int]]:
    """Return (start here, start there, length) of the runs that can't be longer, by trying all."""
    found = set()
    for here in range(len(one)):
        for there in range(len(other)):
            if here and there and one[here - 1] == other[there - 1]:
                continue
            length = 0
            while one[here + length : here + length + 1] == other[there + length : there + length + 1] != []:
                length += 1
            found.add((here, there, length))
    return found
