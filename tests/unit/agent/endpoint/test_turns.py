"""Turns: calls for one pod follow each other, others don't wait, nothing is left behind."""

import asyncio
import gc

import pytest

from services.agent.endpoint.turns import Turns
from tests.fakes.clock import in_fake_time, now


@in_fake_time
async def test_calls_for_one_pod_follow_each_other_in_order() -> None:
    turns, order = Turns(), list[int]()

    async def call(number: int) -> None:
        async with turns.of("shop", "web"):
            await asyncio.sleep(1)
            order.append(number)

    await asyncio.gather(*(call(number) for number in range(4)))
    assert (order, now()) == ([0, 1, 2, 3], 4)


@in_fake_time
async def test_calls_for_different_pods_go_side_by_side() -> None:
    turns = Turns()

    async def call(namespace: str, name: str) -> None:
        async with turns.of(namespace, name):
            await asyncio.sleep(1)

    await asyncio.gather(call("shop", "web"), call("shop", "db"), call("edge", "web"))
    assert now() == 1


@in_fake_time
async def test_a_turn_ends_also_by_an_error_or_a_cancellation() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        async with turns.of("shop", "web"):
            raise ZeroDivisionError

    async def hold() -> None:
        async with turns.of("shop", "web"):
            await asyncio.sleep(1000)

    holding = asyncio.create_task(hold())
    await asyncio.sleep(1)
    holding.cancel()
    async with turns.of("shop", "web"):
        assert now() == 1


@in_fake_time
async def test_of_pods_that_are_gone_no_lock_is_kept() -> None:
    turns = Turns()
    for number in range(100):
        async with turns.of("shop", f"web{number}"):
            pass
    gc.collect()
    assert len(turns._locks) == 0
