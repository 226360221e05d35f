"""Pauses of a process, by a clock that a test sets: what may have waited for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cilia.pauses import PAUSE_SECONDS, TICK_SECONDS, Pauses
from tests.fakes.bus import Broker, FakeBus
from tests.fakes.clock import end, in_fake_time, now


class SlowBus(FakeBus):
    """A bus whose server answers after a while, or not at all."""

    answers_after = 0.0

    async def flush(self, timeout: float = 5.0) -> None:
        await super().flush(timeout)
        await asyncio.sleep(self.answers_after)


class Setting:
    """A process that is paused when the test says so."""

    def __init__(self) -> None:
        self.bus = SlowBus(Broker())
        self.slept = 0.0
        self.pauses = Pauses(self.bus, lambda: now() + self.slept)

    def pause(self, seconds: float) -> None:
        self.slept += seconds


@asynccontextmanager
async def running() -> AsyncIterator[Setting]:
    setting = Setting()
    task = asyncio.create_task(setting.pauses.run())
    try:
        yield setting
    finally:
        await end(task)


@in_fake_time
async def test_without_a_pause_nothing_has_waited() -> None:
    async with running() as setting:
        for _ in range(1000):
            await asyncio.sleep(0.37)
            assert setting.pauses.longest_wait() == 0


@in_fake_time
async def test_what_is_delivered_first_after_a_pause_may_have_waited_all_of_it() -> None:
    async with running() as setting:
        await asyncio.sleep(10)
        setting.pause(30)
        assert 30 <= setting.pauses.longest_wait() <= 30 + TICK_SECONDS


@in_fake_time
async def test_once_the_server_has_answered_all_that_waited_is_here() -> None:
    async with running() as setting:
        setting.bus.answers_after = 0.2
        await asyncio.sleep(10)
        setting.pause(30)
        await asyncio.sleep(0.1)
        assert setting.pauses.longest_wait() >= 30
        await asyncio.sleep(TICK_SECONDS + 0.2)
        assert setting.pauses.longest_wait() == 0


@in_fake_time
async def test_a_server_that_is_away_is_awaited_and_pauses_add_up() -> None:
    async with running() as setting:
        setting.bus.disconnect()
        for _ in range(2):
            setting.pause(30)
            await asyncio.sleep(10)
        assert setting.pauses.longest_wait() >= 60
        setting.bus.reconnect()
        await asyncio.sleep(2 * TICK_SECONDS)
        assert setting.pauses.longest_wait() == 0


@in_fake_time
async def test_a_pause_while_the_server_is_asked_is_one_more() -> None:
    async with running() as setting:
        setting.bus.answers_after = 0.4
        setting.pause(30)
        await asyncio.sleep(TICK_SECONDS + 0.2)
        setting.pause(2 * PAUSE_SECONDS)
        await asyncio.sleep(0.3)
        assert setting.pauses.longest_wait() >= 32
        await asyncio.sleep(1)
        assert setting.pauses.longest_wait() == 0
