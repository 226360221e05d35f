"""Drift of a table that a reconciler keeps: what others write is told, and written again."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cilia.backoff import Backoff
from cilia.reconcile.plan import Plan, WriteResult
from cilia.reconcile.reconciler import Reconciler
from services.agent.drift.reconciled import ReconciledDrift
from services.agent.drift.reporter import Drift
from tests.unit.agent.loops import running, until


class KernelWords:
    """Kernel table of words."""

    def __init__(self, **held: int) -> None:
        self.held = held
        self.refused: set[str] = set()

    def read(self) -> dict[str, int]:
        return dict(self.held)

    def write(self, changes: Mapping[str, int | None]) -> WriteResult[str]:
        for word, value in changes.items():
            if value is None:
                self.held.pop(word, None)
            elif word not in self.refused:
                self.held[word] = value
        return WriteResult(refused={word: "no" for word in changes if word in self.refused})


class Looker:
    """A reconciler whose table is as desired, and what looks at it."""

    def __init__(self, **desired: int) -> None:
        self.kernel, self.desired = KernelWords(**desired), dict(desired)
        self.changed: set[str] = set()
        plan = Plan(self.desired, self.kernel.read(), new_backoff=lambda: Backoff(1000.0, 1000.0))
        self.reconciler: Reconciler[str, int] = Reconciler(
            "word", plan, self.kernel, self._take_changes, batch=10, wait_complete=_never
        )
        assert sum(plan.complete()) == 0
        self.while_reading: Callable[[], object] = lambda: None
        self.drift = ReconciledDrift(
            "words", self.reconciler, self.kernel.read, self._in_thread, describe=str.upper, state=hex
        )

    def _take_changes(self) -> set[str]:
        changed, self.changed = self.changed, set()
        return changed

    async def _in_thread(self, read: Callable[[], Any]) -> Any:
        found = read()
        self.while_reading()
        await asyncio.sleep(0)
        return found


async def _never() -> None:
    await asyncio.Event().wait()


async def test_what_others_changed_added_and_removed_is_told_and_mended() -> None:
    looker = Looker(a=1, b=2, c=3)
    looker.kernel.held = {"a": 1, "b": 20, "d": 4}
    async with running(looker.reconciler.run):
        (drift,) = await looker.drift.look()
        await until(lambda: looker.kernel.held == looker.desired)
    assert drift.part == "words"
    assert set(drift.differences) == {"B was 0x14, not 0x2", "C was missing, not 0x3", "D was 0x4, not missing"}


async def test_a_table_that_is_as_written_tells_nothing() -> None:
    looker = Looker(a=1)
    assert await looker.drift.look() == [Drift("words", ())]


async def test_what_the_reconciler_writes_while_the_table_is_read_is_no_drift() -> None:
    looker = Looker(a=1)

    def change() -> None:
        looker.desired["b"] = 2
        looker.changed.add("b")
        looker.reconciler.write_now()

    looker.while_reading = change
    assert await looker.drift.look() == [Drift("words", ())]
    assert looker.kernel.held == {"a": 1, "b": 2}


async def test_what_the_kernel_refuses_to_take_back_is_told_once() -> None:
    looker = Looker(a=1)
    looker.kernel.refused, looker.kernel.held = {"a"}, {}
    async with running(looker.reconciler.run):
        (drift,) = await looker.drift.look()
        await until(lambda: bool(looker.reconciler.last_error))
        assert await looker.drift.look() == [Drift("words", ())]
    assert drift.differences == ("A was missing, not 0x1",)
