"""Bounded hand-overs."""

from cilia.mailbox import Inbox


async def test_a_full_inbox_refuses_and_counts() -> None:
    box: Inbox[int] = Inbox(2)
    assert [box.offer(number) for number in range(3)] == [True, True, False]
    assert box.refused == 1
    assert await box.take_all() == [0, 1]
    assert box.offer(4)
    assert await box.take() == 4
