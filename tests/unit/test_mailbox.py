"""Bounded hand-overs."""

from cilia.mailbox import Inbox, Latest


async def test_only_the_newest_value_of_a_key_arrives() -> None:
    box: Latest[str, int] = Latest()
    box.put("a", 1)
    box.put("b", 2)
    box.put("a", 3)
    assert await box.take_all() == {"a": 3, "b": 2}
    box.put("c", 4)
    assert await box.take_all() == {"c": 4}


async def test_a_full_inbox_refuses_and_counts() -> None:
    box: Inbox[int] = Inbox(2)
    assert [box.offer(number) for number in range(3)] == [True, True, False]
    assert box.refused == 1
    assert await box.take_all() == [0, 1]
    assert box.offer(4)
    assert await box.take() == 4
