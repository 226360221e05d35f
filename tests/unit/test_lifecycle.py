"""Loops under one supervisor."""

import asyncio
import os
import signal

import pytest
from msgspec import Struct

from cilia.errors import BadConfig, Unavailable
from cilia.lifecycle import Loop, LoopFailed, run_service, stop_on_signals, supervise
from cilia.logs import LogConfig


class Config(Struct, frozen=True):
    log: LogConfig = LogConfig()
    count: int = 1


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_failing_loop_ends_the_others_and_is_named() -> None:
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.set()

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(LoopFailed, match="loop 'allocate' failed: ValueError: broken"):
        await supervise({"allocate": failing, "other": other}, stop=asyncio.Event())
    assert ended.is_set()


async def test_a_loop_that_returns_is_a_failure() -> None:
    async def returning() -> None:
        return

    with pytest.raises(LoopFailed, match="'short' failed: returned"):
        await supervise({"short": returning}, stop=asyncio.Event())


async def test_cancellation_reaches_the_loops_and_the_caller() -> None:
    task = asyncio.create_task(supervise({"forever": forever}, stop=asyncio.Event()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_while_stopping_is_not_lost() -> None:
    async def failing_late() -> None:
        try:
            await forever()
        finally:
            raise Unavailable("etcd", "gone")

    stop = asyncio.Event()
    stop.set()
    with pytest.raises(LoopFailed, match="etcd is unavailable"):
        await supervise({"late": failing_late}, stop=stop)


async def test_a_signal_stops_in_order() -> None:
    async with stop_on_signals(signal.SIGUSR1) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(1):
            await supervise({"forever": forever}, stop=stop)


def test_a_known_error_becomes_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    async def run(_config: Config) -> None:
        raise Unavailable("bus", "no connection to nats://127.0.0.1:1")

    with pytest.raises(SystemExit) as exit_:
        run_service("ipam", Config, run, [])
    assert exit_.value.code == Unavailable.exit_code
    assert capsys.readouterr().err == "cilia-ipam: bus is unavailable: no connection to nats://127.0.0.1:1\n"


def test_a_bad_setting_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    async def run(_config: Config) -> None:
        raise AssertionError

    with pytest.raises(SystemExit) as exit_:
        run_service("ipam", Config, run, ["--count", "many"])
    assert exit_.value.code == BadConfig.exit_code
    assert "setting 'count' = 'many' (flag --count)" in capsys.readouterr().err


async def test_loops_end_in_reverse_of_their_order() -> None:
    ended: list[str] = []

    def loop(name: str) -> Loop:
        async def run() -> None:
            try:
                await forever()
            finally:
                ended.append(name)

        return run

    stop = asyncio.Event()
    running = asyncio.create_task(supervise({name: loop(name) for name in ("first", "second", "last")}, stop=stop))
    await asyncio.sleep(0)
    stop.set()
    await running
    assert ended == ["last", "second", "first"]


async def test_of_several_failures_the_first_ends_the_process_and_the_others_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing() -> None:
        raise Unavailable("etcd", "gone")

    async def failing_as_it_is_cancelled() -> None:
        try:
            await forever()
        finally:
            raise ValueError("broken")

    with pytest.raises(LoopFailed, match="loop 'first' failed: etcd is unavailable: gone"):
        await supervise({"first": failing, "second": failing_as_it_is_cancelled}, stop=asyncio.Event())
    assert "loop 'second' failed: ValueError: broken" in caplog.text


async def test_a_loop_that_somebody_else_cancelled_is_a_failure() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(LoopFailed, match="cancelled by none of ours"):
        await supervise({"one": cancelled}, stop=asyncio.Event())


async def test_the_first_signal_stops_and_the_second_has_its_default_effect() -> None:
    async with stop_on_signals(signal.SIGUSR1) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(30):
            await stop.wait()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_bug_keeps_its_traceback_and_a_service_that_is_told_to_stop_ends_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def told_to_stop(_config: Config) -> None:
        return

    with pytest.raises(SystemExit) as exit_:
        run_service("ipam", Config, told_to_stop, [])
    assert exit_.value.code == 0

    async def buggy(_config: Config) -> None:
        async def loop() -> None:
            raise KeyError("a bug")

        await supervise({"allocate": loop}, stop=asyncio.Event())

    with pytest.raises(SystemExit) as exit_:
        run_service("ipam", Config, buggy, [])
    assert exit_.value.code == 1
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.endswith("cilia-ipam: loop 'allocate' failed: KeyError: 'a bug'\n")
