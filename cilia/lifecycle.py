"""The life of a service: named loops under one supervisor, from the first signal to an orderly end.

A loop runs until it is cancelled. One that fails, or returns, ends the process under its own name:
restart is the normal path, and state returns from etcd, the bus, pinned maps and netlink.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol, TypeVar

import uvloop

from cilia.config import load
from cilia.errors import Failure
from cilia.logs import LogConfig, open_logs

log = logging.getLogger(__name__)

Loop = Callable[[], Coroutine[object, object, None]]


class LoopFailed(Failure):
    """A supervised loop ended; ``__cause__`` is what ended it, or None when it merely returned."""

    def __init__(self, name: str, cause: BaseException | None) -> None:
        reason = "returned, though it should run until cancelled" if cause is None else f"{_describe(cause)}"
        super().__init__(f"loop {name!r} failed: {reason}")
        self.name = name
        self.__cause__ = cause


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"


async def supervise(loops: Mapping[str, Loop], *, stop: asyncio.Event) -> None:
    """Run ``loops`` until ``stop`` is set, then cancel them in reverse order and wait for their
    end.

    Raises:
        LoopFailed: A loop failed or returned, also while stopping. The others were cancelled first.
        asyncio.CancelledError: The caller was cancelled; so were the loops.
    """
    tasks = {asyncio.create_task(factory(), name=name): name for name, factory in loops.items()}
    stopping = asyncio.create_task(stop.wait(), name="stop")
    failures: list[LoopFailed] = []
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        failures += [_failure(task, name) for task, name in tasks.items() if task.done()]
    finally:
        stopping.cancel()
        failures += await _cancel(tasks)
    if failures:
        for other in failures[1:]:
            log.error("%s", other)
        raise failures[0]


async def _cancel(tasks: Mapping["asyncio.Task[None]", str]) -> list[LoopFailed]:
    running = {task: name for task, name in reversed(list(tasks.items())) if not task.done()}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
    return [
        LoopFailed(name, task.exception())
        for task, name in running.items()
        if not task.cancelled() and task.exception() is not None
    ]


def _failure(task: "asyncio.Task[None]", name: str) -> LoopFailed:
    if task.cancelled():
        return LoopFailed(name, asyncio.CancelledError("cancelled by none of ours"))
    return LoopFailed(name, task.exception())


@asynccontextmanager
async def stop_on_signals(*signals: signal.Signals) -> AsyncIterator[asyncio.Event]:
    """Yield an event that the first of ``signals`` sets; a second signal has its default effect and
    kills.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def forget() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def on_signal(number: signal.Signals) -> None:
        log.info("stopping on %s", number.name)
        stop.set()
        forget()

    for number in signals:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        forget()


class ServiceConfig(Protocol):
    """Settings that every service's Config holds beside its own."""

    @property
    def log(self) -> LogConfig:
        """Return the settings of the process's log."""
        ...


C = TypeVar("C", bound=ServiceConfig)


def run_service(
    service: str,
    config_type: type[C],
    run: Callable[[C], Awaitable[None]],
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Load the configuration, run the service on uvloop, and exit: 0 when told to stop, else the
    failure's code.

    A :class:`~cilia.errors.Failure` becomes one line on stderr; anything else is a bug and keeps
    its traceback.
    """
    try:
        config = load(config_type, sys.argv[1:] if argv is None else argv, program=f"cilia-{service}")
        open_logs(config.log, service)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_await(run(config)))
    except Failure as failure:
        if any(not isinstance(cause, Failure) for cause in _causes(failure)):
            log.error("%s", failure, exc_info=failure)
        print(f"cilia-{service}: {failure}", file=sys.stderr, flush=True)
        sys.exit(failure.exit_code)
    sys.exit(0)


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


def _causes(error: BaseException) -> Iterable[BaseException]:
    """Walk the explicit causes: a Failure from an OSError or a timeout was foreseen, one from a bug
    was not.
    """
    while isinstance(error, LoopFailed) and error.__cause__ is not None:
        error = error.__cause__
        yield error
