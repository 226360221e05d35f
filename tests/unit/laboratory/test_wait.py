"""Waiting for conditions."""

import asyncio

import pytest

from laboratory.wait import NotInTime, block_until, wait_until, wait_while


async def test_the_first_true_answer_is_returned() -> None:
    answers = iter(["", 0, None, "here", "later"])
    assert await wait_until(lambda: next(answers)) == "here"
    assert next(answers) == "later"


async def test_a_condition_may_be_a_coroutine_function() -> None:
    answers = iter([False, False, True])

    async def ask() -> bool:
        await asyncio.sleep(0)
        return next(answers)

    assert await wait_until(ask)


async def test_waiting_while_something_holds_ends_when_it_does_not() -> None:
    left = [0, 1, 2, 3]
    await wait_while(left.pop)
    assert left == []


async def test_what_does_not_come_is_named_with_what_was_seen_last() -> None:
    def door() -> str:
        return ""

    with pytest.raises(NotInTime, match=r"door is still '' after 0 s") as late:
        await wait_until(door, seconds=0)
    assert late.value.seen == ""
    with pytest.raises(NotInTime, match="still 'open'"):
        await wait_while(lambda: "open", seconds=0)


def test_a_test_without_a_loop_waits_likewise() -> None:
    answers = iter([0, 0, 7])
    assert block_until(lambda: next(answers)) == 7
    with pytest.raises(NotInTime):
        block_until(lambda: False, seconds=0)


async def test_a_condition_is_asked_once_even_if_the_time_is_up() -> None:
    assert await wait_until(lambda: "at once", seconds=-1) == "at once"
