"""Fake time: an event loop whose clock jumps to the next timer when nobody has anything to do."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")
LIMIT_SECONDS = 1_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    """Selector that lets fake time pass instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everybody waits for ever")
        if not ready and timeout:
            self.now += timeout
            assert self.now < LIMIT_SECONDS, "the test doesn't end"
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Event loop that begins at 0 s; threads and sockets have no place in it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the fake time."""
        return self._jumping.now


def now() -> float:
    """Return the running loop's time."""
    return asyncio.get_running_loop().time()


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in a loop of its own, in fake time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def settle() -> None:
    """Let all who have something to do do it, without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks and wait for their end; one that failed fails the test."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
