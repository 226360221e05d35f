"""Waiting for conditions, the only way in which tests, bench and laboratory wait: as long as it may
take on a busy machine, and not a moment longer than it does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")
PATIENCE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02


class NotInTime(AssertionError):
    """A condition that did not come true; ``seen`` is what it gave last."""

    def __init__(self, condition: object, seconds: float, seen: object) -> None:
        name = getattr(condition, "__qualname__", str(condition))
        super().__init__(f"{name} is still {seen!r} after {seconds:g} s")
        self.seen = seen


@overload
async def wait_until(condition: Callable[[], Awaitable[T]], *, seconds: float = ...) -> T: ...
@overload
async def wait_until(condition: Callable[[], T], *, seconds: float = ...) -> T: ...
async def wait_until(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Call a condition until what it returns is true, and return that.

    Raises:
        NotInTime: It didn't come true.
    """
    return await _wait_for(condition, bool, seconds)


async def wait_while(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Call a condition until what it returns is false.

    Raises:
        NotInTime: It stayed true.
    """
    await _wait_for(condition, lambda seen: not seen, seconds)


async def _wait_for(condition: Callable[[], Any], is_enough: Callable[[Any], bool], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        given = condition()
        seen = await given if isinstance(given, Awaitable) else given
        if is_enough(seen):
            return seen
        if time.monotonic() > deadline:
            raise NotInTime(condition, seconds, seen)
        await asyncio.sleep(POLL_SECONDS)


def block_until(condition: Callable[[], T], *, seconds: float = PATIENCE_SECONDS) -> T:
    """Call a condition until what it returns is true, and return that, without an event loop.

    Raises:
        NotInTime: It didn't come true.
    """
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise NotInTime(condition, seconds, seen)
        time.sleep(POLL_SECONDS)
    return seen
