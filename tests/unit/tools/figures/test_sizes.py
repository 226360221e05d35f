"""Sizes of functions, percentiles, handlers that catch everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tools.figures.trees import c, python
from tools.figures.sizes import broad_handlers, functions, percentile
from tools.tree import Source


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0), ([7], 0.5, 7), ([1, 2, 3], 0.5, 2), ([4, 3, 2, 1], 0.5, 2), (range(1, 101), 0.95, 95)],
)
def test_a_percentile_is_one_of_the_values(values: list[int], share: float, expected: int) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([0.25, 0.5, 0.95, 1.0]))
def test_a_percentile_is_the_least_value_that_the_share_does_not_exceed(values: list[int], share: float) -> None:
    def covers(value: int) -> bool:
        return sum(each <= value for each in values) >= share * len(values)

    assert percentile(values, share) == min(filter(covers, values))


def found(source: Source) -> list[tuple[str, int, int]]:
    return [(each.name, each.line, each.lines) for each in functions(source)]


def test_functions_of_python_are_found_wherever_they_are_nested() -> None:
    source = python(
        '''
        @decorated
        def outer() -> None:
            """Do it."""
            async def inner() -> None:
                pass

        class Thing:
            def method(self) -> None:
                pass
        '''
    )
    assert sorted(found(source)) == [("inner", 4, 2), ("method", 8, 2), ("outer", 2, 4)]


def test_functions_of_c_begin_with_their_type_and_end_with_the_brace() -> None:
    source = c(
        """
        enum verdict {
            PASS,
        };

        static __always_inline int parse(struct cursor *cursor,
                         int length)
        {
            if (length) {
                return 1;
            }
            return 0;
        }

        SEC("tc")
        int from_pod(struct __sk_buff *ctx)
        {
            return parse(0, 1);
        }
        """
    )
    assert found(source) == [("parse", 5, 8), ("from_pod", 15, 4)]


def test_neither_structs_nor_initialisers_of_c_are_functions() -> None:
    source = c(
        """
        struct key {
            __u32 size;
        };
        static const struct key KEYS[] = {
            { .size = 1 },
        };
        """
    )
    assert found(source) == []


def test_scripts_have_no_functions() -> None:
    assert found(Source("tests/unit/a.txt", "def f():\n    pass\n")) == []


def test_handlers_that_catch_everything_are_counted() -> None:
    source = python(
        """
        try:
            pass
        except ValueError:
            pass
        except (OSError, Exception):
            pass
        try:
            pass
        except BaseException as error:
            pass
        try:
            pass
        except:
            pass
        """
    )
    assert broad_handlers(source) == 3
    assert broad_handlers(c("int except;\n")) == 0
