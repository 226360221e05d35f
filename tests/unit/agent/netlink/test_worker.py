"""A thread for calls that block: one at a time, in order; what has begun ends."""

import asyncio
import threading

import pytest

from services.agent.netlink.worker import open_worker


async def test_a_call_returns_its_result_or_raises_its_error_and_runs_elsewhere() -> None:
    async with open_worker("links") as worker:
        assert await worker.run(threading.get_ident) != threading.get_ident()
        assert await worker.run(int, "ff", base=16) == 255
        with pytest.raises(ValueError, match="invalid literal"):
            await worker.run(int, "x")


async def test_calls_are_carried_out_one_after_the_other() -> None:
    order: list[str] = []
    release = threading.Event()

    def slow() -> None:
        assert release.wait(30)
        order.append("slow")

    async with open_worker("links") as worker:
        first = asyncio.create_task(worker.run(slow))
        second = asyncio.create_task(worker.run(order.append, "fast"))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, second)
    assert order == ["slow", "fast"]


async def test_a_call_that_has_begun_ends_even_if_its_caller_is_cancelled() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert release.wait(30)
        ended.set()

    async with open_worker("links") as worker:
        calling = asyncio.create_task(worker.run(slow))
        await asyncio.to_thread(begun.wait, 30)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        release.set()
    assert ended.is_set()
