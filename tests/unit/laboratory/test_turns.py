"""Measurements in turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laboratory.turns import Turns, ratios


def silent() -> Turns:
    return Turns(lambda line: None)


@given(st.integers(1, 5), st.integers(1, 12))
def test_each_subject_is_measured_once_a_round(subjects: int, rounds: int) -> None:
    order: list[int] = []

    def measure(subject: int) -> int:
        order.append(subject)
        return len(order)

    numbered = {str(each): lambda each=each: measure(each) for each in range(subjects)}
    samples = silent().take("all", numbered, rounds)
    assert {name: len(taken) for name, taken in samples.items()} == {str(each): rounds for each in range(subjects)}
    for number in range(rounds):
        assert sorted(order[number * subjects : (number + 1) * subjects]) == list(range(subjects))


def test_who_begins_changes_from_round_to_round() -> None:
    order: list[str] = []
    silent().take("all", {name: lambda name=name: order.append(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(order) == "abcbcacab"


@given(st.integers(0, 11))
def test_an_interruption_keeps_the_complete_rounds_and_ends_what_comes_after(at: int) -> None:
    order: list[str] = []

    def measure(subject: str) -> int:
        if len(order) == at:
            raise KeyboardInterrupt
        order.append(subject)
        return len(order)

    turns = silent()
    subjects = {name: lambda name=name: measure(name) for name in "abc"}
    if at < 3:
        with pytest.raises(KeyboardInterrupt):
            turns.take("all", subjects, 4)
    else:
        samples = turns.take("all", subjects, 4)
        assert {name: len(taken) for name, taken in samples.items()} == dict.fromkeys("abc", at // 3)
    with pytest.raises(KeyboardInterrupt):
        turns.take("what comes next", subjects, 1)
    assert len(order) == at


def test_progress_is_told_now_and_then_and_at_the_beginning() -> None:
    told: list[str] = []
    Turns(told.append).take("pods", {"one": lambda: 1}, 500)
    assert told[0] == "pods: round 1 of 500"
    assert len(told) < 500


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])
