"""Loop over a :class:`Plan`: wakes, takes changes, writes batches, retries, prunes, mends drift.

The plan belongs to the event loop. A table whose calls block is written in a worker thread; others
are written within one step of the event loop, so that nobody sees a batch half noted.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from cilia.notify import Broadcast, Wakeup
from cilia.reconcile.plan import Differences, K, Plan, V, WriteResult

log = logging.getLogger(__name__)

V_contra = TypeVar("V_contra", contravariant=True)

LINGER_SECONDS: Final = 1.0
"""Time between completion of the tables and pruning; watchers run meanwhile."""


class Target(Protocol[K, V_contra]):
    """Kernel table that a reconciler writes."""

    def write(self, changes: Mapping[K, V_contra | None], /) -> WriteResult[K]:
        """Write objects and remove those that are None; say which could not be."""
        ...


class Reconciler(Generic[K, V]):
    """Keeps a kernel table as desired. ``run`` and ``prune`` go to the supervisor.

    Args:
        name: Noun for one object, as users read it in errors.
        take_changes: Returns the objects whose desired state changed since the last call.
        batch: Most objects of one call of the target.
        wait_complete: Waits until desired state is known whole.
        in_thread: Runs a function of the target in a worker thread; None: calls don't block.
    """

    def __init__(
        self,
        name: str,
        plan: Plan[K, V],
        target: Target[K, V],
        take_changes: Callable[[], Iterable[K]],
        *,
        batch: int,
        wait_complete: Callable[[], Awaitable[None]],
        describe: Callable[[K], str] = str,
        in_thread: Callable[..., Awaitable[Any]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self._name = name
        self._target = target
        self._take_changes = take_changes
        self._batch = batch
        self._wait_complete = wait_complete
        self._describe = describe
        self._in_thread = in_thread
        self._clock = clock
        self._wakeup = Wakeup()
        self._wakeup.set()
        self.written = Broadcast()
        """Notification after each step."""

    @property
    def desired(self) -> int:
        """Number of desired objects."""
        return self.plan.desired

    @property
    def pending(self) -> int:
        """Number of objects that are not applied yet, or refused."""
        return self.plan.pending

    @property
    def failures(self) -> int:
        """Refusals of objects, and of batches by a full table, so far."""
        return self.plan.failures

    @property
    def last_error(self) -> str:
        """Reason why objects are missing; empty if none is."""
        if self.plan.full:
            return self.plan.full
        refusal = self.plan.first_refusal()
        if refusal is None:
            return ""
        key, reason = refusal
        others = f" (and {self.plan.refusals - 1} more)" if self.plan.refusals > 1 else ""
        return f"{self._name} {self._describe(key)}{others}: {reason}"

    def wake(self) -> None:
        """Have the loop take changes."""
        self._wakeup.set()

    def take_changes(self) -> None:
        """Note the changes of desired state so far."""
        self.plan.touch(self._take_changes())

    async def run(self) -> None:
        """Write what changed or is due again, until cancelled."""
        while True:
            retry_at = self.plan.next_retry()
            await self._wakeup.wait(None if retry_at is None else max(0.0, retry_at - self._clock()))
            while True:
                if not await self.step():
                    break
                await asyncio.sleep(0)

    async def step(self) -> bool:
        """Write one batch; tell whether there may be another."""
        self.take_changes()
        batch = self.plan.take(self._clock(), self._batch)
        if batch and self._in_thread is not None:
            self._finish(batch, await self._in_thread(self._target.write, batch))
        elif batch:
            self._finish(batch, self._target.write(batch))
        self.written.notify()
        return bool(batch) or self.plan.has_more

    def write_now(self, urgent: Iterable[K] | None = None) -> bool:
        """Write a batch at once, of all pending objects or of ``urgent``.

        For targets that need no worker thread.

        Returns:
            There may be another batch, which finds room.
        """
        self.take_changes()
        batch = self.plan.take(self._clock(), self._batch, urgent)
        if not batch:
            return self.plan.has_more
        result = self._target.write(batch)
        self._finish(batch, result)
        return not result.full

    async def write_all(self) -> None:
        """Write all that is pending and finds room, a batch at once; others run between."""
        while True:
            if not self.write_now():
                break
            await asyncio.sleep(0)

    async def prune(self) -> None:
        """Once desired state is complete, have removed what it doesn't name; then idle."""
        await self._wait_complete()
        await asyncio.sleep(LINGER_SECONDS)
        self.take_changes()
        pruned = 0
        for stale in self.plan.complete():
            pruned += stale
            self.wake()
            await asyncio.sleep(0)
        log.info("desired state is complete", extra={"object": self._name, "desired": self.desired, "pruned": pruned})
        await asyncio.Event().wait()

    async def compare(self, found: Mapping[K, V]) -> Differences[K, V]:
        """Have mended what a look found otherwise than written (:meth:`.Plan.compare`)."""
        differences: Differences[K, V] = {}
        for some in self.plan.compare(found):
            differences |= some
            await asyncio.sleep(0)
        if differences:
            self.wake()
        return differences

    def _finish(self, batch: Mapping[K, V | None], result: WriteResult[K]) -> None:
        was_well = not self.last_error
        self.plan.finish(batch, result, self._clock())
        if self.last_error and (was_well or result.refused):
            log.error("%s; %d pending", self.last_error, self.plan.pending)
