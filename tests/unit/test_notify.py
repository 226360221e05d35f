"""Notifications between loops."""

import asyncio

from cilia.notify import Broadcast, Wakeup


async def test_wake_ups_between_two_rounds_are_one() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert await wakeup.wait()
    assert not wakeup.is_set
    assert not await wakeup.wait(0.001)


async def test_a_wake_up_before_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup.set()
    assert await wakeup.wait(0)


async def test_news_reach_all_who_wait_and_nobody_who_comes_later() -> None:
    news, heard = Broadcast(), list[int]()

    async def listen(number: int) -> None:
        await news.wait()
        heard.append(number)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(1))
        tasks.create_task(listen(2))
        await asyncio.sleep(0)
        news.notify()
    assert sorted(heard) == [1, 2]
    late = asyncio.create_task(listen(3))
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()


async def test_a_condition_is_looked_at_after_each_notification() -> None:
    news, found = Broadcast(), 0

    async def count() -> None:
        nonlocal found
        for _ in range(3):
            await asyncio.sleep(0)
            found += 1
            news.notify()

    counting = asyncio.create_task(count())
    async with asyncio.timeout(5):
        await news.wait_until(lambda: found == 3)
    await counting


async def test_a_condition_that_holds_is_not_waited_for() -> None:
    async with asyncio.timeout(5):
        await Broadcast().wait_until(lambda: True)
