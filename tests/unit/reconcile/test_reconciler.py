"""Reconciler's loop over a kernel table in memory; no time passes by itself."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cilia.reconcile import reconciler as module
from cilia.reconcile.plan import Status
from cilia.reconcile.reconciler import Reconciler
from tests.unit.reconcile.kernel import Bench


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)


async def running(bench: Bench, during: Callable[[], Any]) -> None:
    """Run the loop while ``during`` does something, until nothing is left to do."""
    task = asyncio.create_task(bench.reconciler.run())
    await turns()
    during()
    await turns()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_loop_writes_what_is_desired_when_it_starts_and_what_changes_then() -> None:
    bench = Bench({"a": "1"})
    bench.want("a", "1")
    bench.want("b", "2")

    def change() -> None:
        assert bench.kernel.held == {"a": "1", "b": "2"}
        bench.want("c", "3")
        bench.reconciler.wake()

    await running(bench, change)
    assert bench.kernel.writes == [{"b": "2"}, {"c": "3"}]


async def test_changes_without_a_wake_up_are_taken_with_the_next() -> None:
    bench = Bench()
    await running(bench, lambda: bench.want("a", "1"))
    assert bench.kernel.held == {}
    await running(bench, bench.reconciler.wake)
    assert bench.kernel.held == {"a": "1"}


async def test_what_piled_up_is_written_in_batches_and_others_run_between() -> None:
    bench, between = Bench(batch=2), list[int]()
    for key in "abcde":
        bench.want(key, "1")

    async def other() -> None:
        while True:
            between.append(len(bench.kernel.writes))
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await running(bench, lambda: None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [len(write) for write in bench.kernel.writes] == [2, 2, 1]
    assert {1, 2} <= set(between)


async def test_a_refused_object_is_written_once_its_pause_is_over() -> None:
    bench = Bench()
    bench.kernel.refusals["a"] = "no such device"
    bench.want("a", "1")
    await running(bench, lambda: None)
    assert bench.reconciler.last_error == "entry a: no such device"
    bench.kernel.refusals.clear()
    bench.now += 1.0
    await running(bench, lambda: None)
    assert bench.kernel.held == {"a": "1"}
    assert bench.reconciler.last_error == ""


async def test_the_loop_wakes_by_itself_for_a_retry() -> None:
    bench = Bench()
    bench.kernel.refusals["a"] = "busy"
    bench.want("a", "1")
    task = asyncio.create_task(bench.reconciler.run())
    await turns()
    assert len(bench.kernel.writes) == 1
    bench.kernel.refusals.clear()
    bench.now = 0.999
    retry_at = bench.plan.next_retry()
    assert retry_at == 1.0
    async with asyncio.timeout(30):
        bench.now = 2.0
        bench.reconciler.wake()
        while bench.plan.status("a") is not Status.DONE:
            await bench.reconciler.written.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_errors_name_one_object_and_count_the_others(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for key in "abc":
        bench.kernel.refusals[key] = "busy"
        bench.want(key, "1")
    with caplog.at_level(logging.ERROR):
        await running(bench, lambda: None)
    assert bench.reconciler.last_error == "entry a (and 2 more): busy"
    assert [record.getMessage() for record in caplog.records] == ["entry a (and 2 more): busy; 3 pending"]


async def test_a_full_table_is_an_error_until_there_is_room() -> None:
    bench = Bench({"x": "1"})
    bench.kernel.capacity = 1
    bench.want("a", "1")
    assert not bench.reconciler.write_now()
    assert bench.reconciler.last_error == "all 1 entries are in use"
    assert sum(bench.plan.complete()) == 1
    await running(bench, lambda: None)
    assert bench.kernel.held == {"a": "1"}
    assert bench.reconciler.last_error == ""


async def test_an_urgent_object_is_in_the_table_when_the_call_returns() -> None:
    bench = Bench(batch=1)
    for key in "abc":
        bench.want(key, "1")
    assert bench.reconciler.write_now(["c"])
    assert bench.kernel.held == {"c": "1"}
    assert not bench.reconciler.write_now(["c"])
    assert len(bench.kernel.writes) == 1


@pytest.mark.usefixtures("no_linger")
async def test_what_a_former_process_left_goes_once_desired_state_is_complete() -> None:
    bench = Bench({"a": "1", "old": "1"})
    bench.want("a", "1")
    prune = asyncio.create_task(bench.reconciler.prune())
    await running(bench, lambda: None)
    assert bench.kernel.held == {"a": "1", "old": "1"}
    bench.known.set()
    await running(bench, lambda: None)
    prune.cancel()
    await asyncio.gather(prune, return_exceptions=True)
    assert bench.kernel.held == {"a": "1"}
    assert bench.kernel.writes == [{"old": None}]


@pytest.mark.usefixtures("no_linger")
async def test_a_change_that_came_with_completeness_is_known_before_anything_is_pruned() -> None:
    bench = Bench({"late": "1"})

    bench.on_known = lambda: bench.want("late", "1")
    bench.known.set()
    prune = asyncio.create_task(bench.reconciler.prune())
    await running(bench, lambda: None)
    prune.cancel()
    await asyncio.gather(prune, return_exceptions=True)
    assert bench.plan.is_complete
    assert bench.kernel.writes == []


async def test_calls_that_block_run_elsewhere_and_changes_meanwhile_follow() -> None:
    bench, calls = Bench(), list[Mapping[str, str | None]]()
    finish = asyncio.Event()

    async def in_thread(write: Callable[..., Any], batch: Mapping[str, str | None]) -> Any:
        calls.append(batch)
        await finish.wait()
        return write(batch)

    bench.reconciler = Reconciler(
        "entry",
        bench.plan,
        bench.kernel,
        bench._take_changes,
        batch=9,
        wait_complete=bench.wait_complete,
        in_thread=in_thread,
        clock=lambda: 0.0,
    )
    bench.want("a", "1")

    def change() -> None:
        assert calls == [{"a": "1"}]
        assert bench.plan.status("a") is Status.PENDING
        bench.want("a", "2")
        bench.reconciler.wake()
        finish.set()

    await running(bench, change)
    assert calls == [{"a": "1"}, {"a": "2"}]
    assert bench.kernel.held == {"a": "2"}


async def test_who_waits_hears_of_each_batch() -> None:
    bench = Bench(batch=1)
    task = asyncio.create_task(bench.reconciler.run())
    await turns()
    for key in "ab":
        bench.want(key, "1")
    bench.reconciler.wake()
    async with asyncio.timeout(30):
        await bench.reconciler.written.wait_until(lambda: bench.plan.status("b") is Status.DONE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.kernel.held == {"a": "1", "b": "1"}
