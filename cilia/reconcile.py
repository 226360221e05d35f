"""Reconciliation: what is desired, against what is there, until they agree; for maps, links, routes, anything keyed.

An event changes the desired table and never acts. :func:`plan` says what is to be done, purely; the
:class:`Reconciler`'s loop does it through a :class:`Target`, in batches, retries what failed with backoff, looks now
and then whether someone else has changed the target, and keeps a status for each object.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from random import Random
from typing import Final, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

FIRST_RETRY_SECONDS: Final = 0.1
LONGEST_RETRY_SECONDS: Final = 30.0


class TargetFailed(Exception):
    """A whole operation of a target failed; it will be tried again."""


class Target(Protocol[K, V]):
    """What is reconciled. Updates and deletes are idempotent; both may fail for single objects."""

    async def update(self, batch: Sequence[tuple[K, V]]) -> Mapping[K, str]:
        """Write the objects in order; return the reason for each that failed. Raises TargetFailed for all."""
        ...

    async def delete(self, batch: Sequence[K]) -> Mapping[K, str]:
        """Remove the objects in order, also ones that are gone; return failures. Raises TargetFailed for all."""
        ...

    async def list(self) -> Mapping[K, V]:
        """Return what is there now. Raises TargetFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Plan(Generic[K, V]):
    """What is to be done: updates first, in the order desired; then deletes, the newest first."""

    updates: list[tuple[K, V]]
    deletes: list[K]


def plan(
    desired: Mapping[K, V], applied: Mapping[K, V], present: Mapping[K, V] | None = None, *, prune: bool = False
) -> Plan[K, V]:
    """Compare tables.

    Args:
        desired: In dependency order: what others need stands first.
        applied: What was written by us, as far as we know.
        present: What a look at the target showed, if there was one; it is believed over ``applied``.
        prune: Also remove what is present but was never ours. Only right once ``desired`` is complete.
    """
    there = applied if present is None else present
    updates = [(key, row) for key, row in desired.items() if key not in there or there[key] != row]
    ours = {key: None for key in applied if key not in desired and key in there}
    strangers = {key: None for key in there if key not in desired and key not in applied} if prune else {}
    return Plan(updates, [*reversed([*strangers, *ours])])


class State(Enum):
    """How far an object is."""

    PENDING = "pending"
    DONE = "done"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Status:
    """State of one object, and why it fails if it does."""

    state: State
    reason: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class _Failure(Generic[V]):
    wanted: V | None
    reason: str
    attempts: int
    retry_at: float


class Reconciler(Generic[K, V]):
    """Keeps one target as desired. ``put``, ``remove`` and ``complete`` are for its owner; ``run`` is the loop.

    Args:
        batch: Objects per call of the target.
        refresh_seconds: Between two looks at what is really there.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        target: Target[K, V],
        *,
        batch: int = 1024,
        refresh_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self._target = target
        self._batch = batch
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._random = random or Random()
        self._desired: dict[K, V] = {}
        self._applied: dict[K, V] = {}
        self._unknown: dict[K, None] = {}  # tried and failed: the target may hold the old row, the new one or none
        self._failures: dict[K, _Failure[V]] = {}
        self._complete = False
        self._refresh_at = clock()
        self._refresh_failures = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def desired(self) -> Mapping[K, V]:
        """What ought to be there."""
        return self._desired

    def put(self, key: K, row: V) -> None:
        """Want an object; at the end of the order if it is new."""
        self._desired[key] = row
        self._wake.set()

    def remove(self, key: K) -> None:
        """Want an object no more."""
        self._desired.pop(key, None)
        self._wake.set()

    def replace(self, rows: Mapping[K, V]) -> None:
        """Want exactly these objects, in this order."""
        self._desired = dict(rows)
        self._wake.set()

    def complete(self) -> None:
        """State that all that is desired is known now: from here on, strangers in the target are pruned."""
        if not self._complete:
            self._complete = True
            self._refresh_at = self._clock()
            self._wake.set()

    def refresh(self) -> None:
        """Look at the target soon: someone may have changed it."""
        self._refresh_at = self._clock()
        self._wake.set()

    def status(self, key: K) -> Status:
        """Return how far an object is; one that is neither wanted nor there is done."""
        failure = self._failures.get(key)
        if failure is not None:
            return Status(State.FAILING, failure.reason, failure.attempts)
        realised = key in self._applied and key in self._desired and self._applied[key] == self._desired[key]
        absent = not any(key in each for each in (self._applied, self._desired, self._unknown))
        return Status(State.DONE if realised or absent else State.PENDING)

    @property
    def settled(self) -> bool:
        """Tell whether everything is as desired, as far as known."""
        return (
            self._refresh_failures == 0 and self._applied == self._desired and not self._failures and not self._unknown
        )

    async def wait_settled(self) -> None:
        """Wait until everything is as desired; bound it with ``asyncio.timeout``."""
        while not self.settled:
            await self._settled.wait()

    async def run(self) -> None:
        """Reconcile on change, retry and refresh until cancelled."""
        while True:
            self._wake.clear()
            await self.reconcile()
            try:
                async with asyncio.timeout(max(0.0, self.next_time() - self._clock())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def next_time(self) -> float:
        """Return when there is something to do even if nothing changes."""
        return min([self._refresh_at, *(failure.retry_at for failure in self._failures.values())])

    async def reconcile(self) -> None:
        """Do once what is due: look if it is time, then update, then delete."""
        present = await self._look() if self._clock() >= self._refresh_at else None
        todo = plan(self._desired, self._applied, present, prune=self._complete)
        if present is not None:
            self._believe(present)
        uncertain = [key for key in self._unknown if key not in self._desired]
        deletes = list(dict.fromkeys((*reversed(uncertain), *todo.deletes)))
        self._forget_failures({key for key, _ in todo.updates} | set(deletes))
        for batch in _batches([(key, row) for key, row in todo.updates if self._due(key)], self._batch):
            failed = await self._try(self._target.update, batch, [key for key, _ in batch])
            self._note(dict(batch), failed)
        for keys in _batches([key for key in deletes if self._due(key)], self._batch):
            failed = await self._try(self._target.delete, keys, keys)
            self._note(dict.fromkeys(keys), failed)
        if self.settled:
            self._settled.set()
            self._settled = asyncio.Event()

    def _forget_failures(self, work: set[K]) -> None:
        """Forget failures of what is no longer to be done, or is wanted otherwise by now: that is tried at once."""
        self._failures = {
            key: failure
            for key, failure in self._failures.items()
            if key in work and self._desired.get(key) == failure.wanted
        }

    def _believe(self, present: Mapping[K, V]) -> None:
        """Take over what is there; strangers only once they are to be pruned, so that a failed prune is retried."""
        known = {key: row for key, row in self._applied.items() if key in present} | {
            key: row for key, row in present.items() if key in self._desired or self._complete
        }
        self._applied = {key: present[key] for key in known}
        self._unknown = {key: None for key in self._unknown if key not in self._desired and key in present}

    async def _look(self) -> Mapping[K, V] | None:
        try:
            present = await self._target.list()
        except TargetFailed as error:
            self._refresh_failures += 1
            self._refresh_at = self._clock() + self._backoff(self._refresh_failures)
            log.warning("can't list the target: %s", error)
            return None
        self._refresh_failures = 0
        self._refresh_at = self._clock() + self._refresh_seconds * self._random.uniform(0.8, 1.0)
        return present

    async def _try(
        self, operation: Callable[[Sequence[T]], Awaitable[Mapping[K, str]]], batch: Sequence[T], keys: Sequence[K]
    ) -> Mapping[K, str]:
        try:
            return await operation(batch)
        except TargetFailed as error:
            log.warning("a batch of %d failed: %s", len(batch), error)
            return dict.fromkeys(keys, str(error))

    def _due(self, key: K) -> bool:
        failure = self._failures.get(key)
        return failure is None or failure.retry_at <= self._clock()

    def _note(self, wanted: Mapping[K, V] | Mapping[K, None], failed: Mapping[K, str]) -> None:
        for key, row in wanted.items():
            before = self._failures.pop(key, None)
            self._unknown.pop(key, None)
            self._applied.pop(key, None)
            if key not in failed:
                if row is not None:
                    self._applied[key] = row
                continue
            self._unknown[key] = None
            attempts = before.attempts + 1 if before is not None else 1
            retry_at = self._clock() + self._backoff(attempts)
            self._failures[key] = _Failure(row, failed[key], attempts, retry_at)

    def _backoff(self, attempts: int) -> float:
        pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts - 1, 20))
        return pause * self._random.uniform(0.5, 1.0)


def _batches(items: Sequence[T], size: int) -> list[list[T]]:
    source = iter(items)
    return list(iter(lambda: list(islice(source, size)), []))
