"""Measurements in turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laboratory.turns import ratios, take_turns


@given(st.integers(1, 5), st.integers(1, 12))
def test_each_subject_is_measured_once_a_round(subjects: int, rounds: int) -> None:
    order: list[int] = []

    def measure(subject: int) -> int:
        order.append(subject)
        return len(order)

    samples = take_turns({str(each): lambda each=each: measure(each) for each in range(subjects)}, rounds)  # type: ignore[misc]
    assert {name: len(taken) for name, taken in samples.items()} == {str(each): rounds for each in range(subjects)}
    for number in range(rounds):
        assert sorted(order[number * subjects : (number + 1) * subjects]) == list(range(subjects))


def test_who_begins_changes_from_round_to_round() -> None:
    order: list[str] = []
    take_turns({name: lambda name=name: order.append(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(order) == "abcbcacab"


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])
