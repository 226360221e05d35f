"""Bounded hand-overs."""

import asyncio

from cilia.mailbox import Inbox


async def test_a_full_inbox_refuses_and_counts() -> None:
    box: Inbox[int] = Inbox(2)
    assert [box.offer(number) for number in range(3)] == [True, True, False]
    assert box.refused == 1
    assert await box.take_all() == [0, 1]
    assert box.offer(4)
    assert await box.take() == 4


async def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    box: Inbox[int] = Inbox(10)
    taking = asyncio.create_task(box.take_all())
    await asyncio.sleep(0)
    assert not taking.done(), "it waits for the first"
    for number in (3, 1, 2):
        box.offer(number)
    assert len(box) == 3
    assert await taking == [3, 1, 2]
    assert len(box) == 0


async def test_room_comes_again_as_items_are_taken() -> None:
    box: Inbox[str] = Inbox(1)
    assert [box.offer("a"), box.offer("b")] == [True, False]
    assert await box.take() == "a"
    assert box.offer("c")
    assert (await box.take(), box.refused) == ("c", 1)
