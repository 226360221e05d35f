"""Cleanups share grace periods, free their slots at the end, and keep order."""

import asyncio
from collections.abc import Iterable

from cilia.contracts.tables import PolicyKey
from services.agent.policy.cleanup import Cleanups, split_at_grace_periods
from services.agent.policy.instructions import AwaitGracePeriod, ClearNextVersion, DeleteEntries, Instruction
from services.agent.policy.maps import PolicyMaps
from tests.unit.agent.loops import running, until
from tests.unit.agent.policy.test_reconciler import port
from tests.unit.agent.tables import turns


def test_grace_periods_divide_the_instructions_into_phases() -> None:
    one, two = ClearNextVersion(1), ClearNextVersion(2)
    wait = AwaitGracePeriod()
    assert split_at_grace_periods([one, wait, two, wait]) == ((one,), (two,), ())
    assert split_at_grace_periods([wait, one]) == ((), (one,))
    assert split_at_grace_periods([]) == ((),)


class Log(PolicyMaps):
    """Maps that note what was performed, and grace periods that end when the test says so."""

    def __init__(self) -> None:
        self.said: list[Instruction | str] = []
        self.grace = asyncio.Semaphore(0)

    def perform(self, instructions: Iterable[Instruction]) -> None:
        self.said += instructions

    async def synchronize_rcu(self) -> None:
        await self.grace.acquire()
        self.said.append("grace period")


def removal(slot: int, *keys: PolicyKey) -> list[Instruction]:
    return [AwaitGracePeriod(), DeleteEntries(slot, 0, frozenset(keys))]


async def test_entries_go_after_the_grace_period_and_their_slot_is_free_then() -> None:
    maps, done = Log(), list[int]()
    cleanups = Cleanups(maps, maps.synchronize_rcu)
    async with running(cleanups.run):
        cleanups.add([1], removal(1, port(), port(81)), lambda: done.append(1))
        await turns()
        assert (maps.said, cleanups.busy, cleanups.entries) == ([], {1}, 2)
        maps.grace.release()
        await until(lambda: done == [1])
    assert maps.said == ["grace period", DeleteEntries(1, 0, frozenset({port(), port(81)}))]
    assert (cleanups.busy, cleanups.entries) == (set(), 0)


async def test_cleanups_that_come_together_share_their_grace_periods() -> None:
    maps, done = Log(), list[int]()
    cleanups = Cleanups(maps, maps.synchronize_rcu)
    cleanups.add([1], [*removal(1, port()), AwaitGracePeriod()], lambda: done.append(1))
    cleanups.add([2], removal(2, port()), lambda: done.append(2))
    async with running(cleanups.run):
        maps.grace.release()
        await turns()
        assert len(maps.said) == 3
        assert done == [], "a cleanup ends with the last of its batch"
        maps.grace.release()
        await until(lambda: done == [1, 2])
    assert maps.said.count("grace period") == 2


async def test_a_cleanup_that_comes_during_a_grace_period_takes_the_next() -> None:
    maps, done = Log(), list[int]()
    cleanups = Cleanups(maps, maps.synchronize_rcu)
    async with running(cleanups.run):
        cleanups.add([1], removal(1, port()), lambda: done.append(1))
        await turns()
        cleanups.add([2], removal(2, port()), lambda: done.append(2))
        maps.grace.release()
        await until(lambda: done == [1])
        await turns()
        assert cleanups.busy == {2}
        maps.grace.release()
        await until(lambda: done == [1, 2])
