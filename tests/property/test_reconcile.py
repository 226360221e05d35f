"""A target that fails on order, and that strangers write to: the reconciler converges whatever happens."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.reconcile import Reconciler, State, TargetFailed, plan


class FaultyTarget:
    """A map in memory. ``faults`` is consumed call by call: "ok", "all" (the call fails), "some" (every other object),
    "half" (the call fails after half of its work)."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.rows: dict[int, int] = {}
        self.faults = list(faults)
        self.log: list[str] = []

    def _fault(self) -> str:
        return self.faults.pop(0) if self.faults else "ok"

    async def update(self, batch: Sequence[tuple[int, int]]) -> Mapping[int, str]:
        fault = self._fault()
        failed = {}
        for number, (key, row) in enumerate(batch):
            if fault == "all" or (fault == "half" and number >= len(batch) // 2):
                raise TargetFailed("no room")
            if fault == "some" and number % 2 == 0:
                failed[key] = "busy"
            else:
                self.rows[key] = row
                self.log.append(f"+{key}")
        return failed

    async def delete(self, batch: Sequence[int]) -> Mapping[int, str]:
        fault = self._fault()
        failed = {}
        for number, key in enumerate(batch):
            if fault == "all" or (fault == "half" and number >= len(batch) // 2):
                raise TargetFailed("no room")
            if fault == "some" and number % 2 == 0:
                failed[key] = "busy"
            else:
                self.rows.pop(key, None)
                self.log.append(f"-{key}")
        return failed

    async def list(self) -> Mapping[int, int]:
        if self._fault() == "all":
            raise TargetFailed("no answer")
        return dict(self.rows)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


KEYS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(0, 3)),
    st.tuples(st.just("remove"), KEYS),
    st.tuples(st.just("stranger"), KEYS, st.integers(0, 3)),
    st.tuples(st.just("vandal"), KEYS),
    st.tuples(st.just("wait"), st.integers(0, 100)),
    st.tuples(st.just("reconcile")),
    st.tuples(st.just("complete")),
)
FAULTS = st.lists(st.sampled_from(["ok", "all", "some", "half"]), max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30), FAULTS, st.integers(1, 4))
def test_it_always_converges(steps: list[tuple[object, ...]], faults: list[str], batch: int) -> None:
    asyncio.run(converge(steps, faults, batch))


async def converge(steps: list[tuple[object, ...]], faults: list[str], batch: int) -> None:
    target, clock = FaultyTarget(faults), Clock()
    reconciler = Reconciler(target, batch=batch, clock=clock, random=Random(1))
    for step in steps:
        match step:
            case ("set", int(key), int(row)):
                reconciler.put(key, row)
            case ("remove", int(key)):
                reconciler.remove(key)
            case ("stranger", int(key), int(row)):
                target.rows[key] = row
            case ("vandal", int(key)):
                target.rows.pop(key, None)
            case ("wait", int(seconds)):
                clock.now += seconds
            case ("reconcile",):
                await reconciler.reconcile()
            case ("complete",):
                reconciler.complete()
    reconciler.complete()
    reconciler.refresh()
    for _ in range(40):
        await reconciler.reconcile()
        if reconciler.settled and not target.faults and target.rows == reconciler.desired:
            break
        clock.now = max(clock.now, reconciler.next_time())
    assert target.rows == reconciler.desired
    assert reconciler.settled
    assert all(reconciler.status(key).state is State.DONE for key in range(6))


async def test_nothing_of_strangers_is_removed_before_the_desired_table_is_complete() -> None:
    target, clock = FaultyTarget([]), Clock()
    target.rows[9] = 9
    reconciler = Reconciler(target, clock=clock, random=Random(1))
    reconciler.put(1, 1)
    await reconciler.reconcile()
    assert target.rows == {9: 9, 1: 1}
    reconciler.complete()
    await reconciler.reconcile()
    assert target.rows == {1: 1}


async def test_what_failed_is_retried_later_each_time_and_says_why() -> None:
    target, clock = FaultyTarget(["ok", "all", "all"]), Clock()
    reconciler = Reconciler(target, clock=clock, random=Random(1))
    reconciler.put(1, 1)
    await reconciler.reconcile()
    status = reconciler.status(1)
    assert (status.state, status.reason, status.attempts) == (State.FAILING, "no room", 1)
    first = reconciler.next_time() - clock.now
    clock.now += first
    await reconciler.reconcile()
    assert reconciler.status(1).attempts == 2
    assert reconciler.next_time() - clock.now > first / 2
    clock.now += 1
    await reconciler.reconcile()
    assert reconciler.status(1).state is State.DONE


async def test_the_loop_wakes_on_change_and_settles() -> None:
    target = FaultyTarget(["ok", "some"])
    reconciler = Reconciler(target, random=Random(1))
    loop = asyncio.create_task(reconciler.run())
    reconciler.replace({1: 1, 2: 2})
    async with asyncio.timeout(5):
        await reconciler.wait_settled()
        reconciler.remove(1)
        await reconciler.wait_settled()
    loop.cancel()
    assert target.rows == {2: 2}


def test_updates_stand_in_the_order_desired_and_deletes_in_reverse() -> None:
    todo = plan({3: 1, 1: 1, 2: 1}, {7: 1, 8: 1, 1: 1})
    assert todo.updates == [(3, 1), (2, 1)]
    assert todo.deletes == [8, 7]
