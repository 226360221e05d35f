"""Thread for calls that block in the kernel, on RTNL or an RCU grace period; one at a time.

The agent has two, so that changes of links and grace periods don't delay each other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """Runs functions in its own thread. Made by :func:`open_worker`."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``function`` and return its result; what has begun ends, though cancelled."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._executor, lambda: function(*args, **kwargs)))


@asynccontextmanager
async def open_worker(name: str) -> AsyncIterator[Worker]:
    """Yield a worker; at the end, calls that wait are dropped and the running one is awaited."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    try:
        yield Worker(executor)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
