"""Plan for the objects of one kernel table: desired and applied state in, batches of writes out.

Pure: time comes in as ``now`` in seconds, randomness with the backoffs.

::

    desired changes: touch ->+
    drift: compare --------->+--> pending --take--> writing --finish--> applied
    all is known: complete ->+      ^                  |
                                    +--- its pause ----+ refused (one object), or full (the table)

An object is removed because desired state named it once and does no more. What a former process
left and nobody names is pruned only after :meth:`Plan.complete`.

No step costs more than a batch, whatever the table holds: refused objects wait in a heap, a full
table looks at removals alone, and what concerns the whole table goes in slices.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush
from itertools import count, islice
from typing import Final, Generic, TypeVar

from cilia.backoff import Backoff

K = TypeVar("K")
V = TypeVar("V")
Differences = dict[K, tuple[V | None, V | None]]

RETRYING: Final = float("inf")
"""Time of a retry that has begun."""
SLICE: Final = 4096
"""Objects that a slice of a whole table has."""


class Status(StrEnum):
    """State of one object, as statedb's reconciler has it."""

    DONE = "done"
    PENDING = "pending"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class WriteResult(Generic[K]):
    """Objects of a batch that were not written; all others were.

    Attributes:
        refused: Object -> reason for which the kernel refused this one.
        full: Reason for which the table takes no more objects; empty if it does.
        left: Objects that found no room.
    """

    refused: Mapping[K, str] = field(default_factory=dict)
    full: str = ""
    left: Collection[K] = frozenset()


@dataclass(slots=True)
class _Refusal:
    reason: str
    backoff: Backoff
    retry_at: float


class Plan(Generic[K, V]):
    """Desired and applied objects, and the writes that lead from one to the other.

    Args:
        desired: Live view of the desired objects; whoever changes it calls :meth:`touch`.
        applied: Objects that the table holds at the start; the plan keeps it up to date.
        new_backoff: Makes the pauses of one refused object, and of the full table.
        matches: Tells whether an object of the table (first) is as good as the wanted one.
    """

    def __init__(
        self,
        desired: Mapping[K, V],
        applied: dict[K, V],
        *,
        new_backoff: Callable[[], Backoff],
        matches: Callable[[V, V], bool] = operator.eq,
    ) -> None:
        self._desired = desired
        self.applied: Final = applied
        self._new_backoff = new_backoff
        self._matches = matches
        self._pending: dict[K, None] = {}
        self._removals: dict[K, None] = {}
        """Pending objects that desired state didn't name when they became pending."""
        self._writing: set[K] = set()
        self._refused: dict[K, _Refusal] = {}
        self._retries: list[tuple[float, int, K]] = []
        """Heap of retries; those whose time isn't their refusal's any more count for nothing."""
        self._numbers = count()
        self._full_backoff = new_backoff()
        self._full_until = 0.0
        self._touched: set[K] = set()
        self.has_more = False
        """The latest batch left out objects for its size alone."""
        self.full = ""
        """Reason for which the table takes no more objects; empty if it does."""
        self.is_complete = False
        """Desired state is known whole: what it doesn't name is pruned."""
        self.failures = 0
        """Refusals of objects, and of batches by a full table, so far."""

    @property
    def desired(self) -> int:
        """Number of desired objects."""
        return len(self._desired)

    @property
    def pending(self) -> int:
        """Number of objects that are not applied yet, or refused."""
        return len(self._pending) + len(self._refused.keys() - self._pending.keys())

    @property
    def refused(self) -> dict[K, str]:
        """Objects that the kernel refused at the latest attempt, and its reasons."""
        return {key: refusal.reason for key, refusal in self._refused.items()}

    @property
    def refusals(self) -> int:
        """Number of objects that the kernel refused at the latest attempt."""
        return len(self._refused)

    def first_refusal(self) -> tuple[K, str] | None:
        """Return the object that was refused before all others, and the kernel's reason."""
        for key, refusal in self._refused.items():
            return key, refusal.reason
        return None

    def status(self, key: K) -> Status:
        """Return the state of one object, desired or not."""
        if self._is_same(self.applied.get(key), self._desired.get(key)):
            return Status.DONE
        return Status.ERROR if key in self._refused or (self.full and key in self._pending) else Status.PENDING

    def touch(self, keys: Iterable[K]) -> None:
        """Note objects whose desired state may have changed; refused ones are retried at once."""
        for key in keys:
            self._add(key)
            self._refused.pop(key, None)

    def complete(self) -> Iterator[int]:
        """Note that desired state is known whole; yield slice by slice how many objects are to be
        pruned.
        """
        self.is_complete = True
        for keys in _slices(list(self.applied)):
            stale = [key for key in keys if key in self.applied and key not in self._desired]
            self.touch(stale)
            yield len(stale)

    def take(self, now: float, limit: int, urgent: Iterable[K] | None = None) -> dict[K, V | None]:
        """Return objects to write, None for those to remove; to be given to :meth:`finish` next.

        A full table gets removals only, until its pause is over or something was removed.

        Args:
            limit: Most objects to write.
            urgent: Objects to write now, of all that is pending, even into a full table.
        """
        self._add_retries(now)
        removals_only = urgent is None and self.full and now < self._full_until
        candidates = self._removals if removals_only else self._pending
        batch: dict[K, V | None] = {}
        idle: list[K] = []
        self.has_more = False
        for key in candidates if urgent is None else dict.fromkeys(filter(self._pending.__contains__, urgent)):
            wanted = self._desired.get(key)
            if key in self._writing or (removals_only and wanted is not None):
                continue
            if len(batch) >= limit or len(idle) >= SLICE:
                self.has_more = True
                break
            if self._is_same(self.applied.get(key), wanted):
                idle.append(key)
            else:
                batch[key] = wanted
        for key in (*idle, *batch):
            del self._pending[key]
            self._removals.pop(key, None)
        for key in idle:
            self._refused.pop(key, None)
        self._writing |= batch.keys()
        self._touched |= batch.keys()
        if not (batch or self._pending):
            self.full = ""
        return batch

    def finish(self, batch: Mapping[K, V | None], result: WriteResult[K], now: float) -> None:
        """Note what has become of a batch that :meth:`take` returned."""
        self._writing -= batch.keys()
        removed = False
        for key, value in batch.items():
            if key in result.refused:
                self._refuse(key, result.refused[key], now)
            elif key in result.left:
                self._add(key)
            elif value is None:
                removed = self.applied.pop(key, None) is not None or removed
                self._refused.pop(key, None)
            else:
                self.applied[key] = value
                self._refused.pop(key, None)
        self.failures += len(result.refused) + bool(result.full)
        if result.full:
            self.full, self._full_until = result.full, now + self._full_backoff.next_seconds()
        elif removed:
            self._full_until = now
        if not result.full and any(value is not None for value in batch.values()):
            self.full = ""
            self._full_backoff.reset()

    def next_retry(self) -> float | None:
        """Return the time of the next retry; None if nothing waits for one."""
        times = [self._full_until] if self.full and self._pending else []
        while self._retries and not self._is_due(*self._retries[0]):
            heappop(self._retries)
        times += [at for at, _, _ in self._retries[:1]]
        return min(times, default=None)

    def begin_look(self) -> None:
        """Note that the table is about to be read; writes from now on make its objects doubtful."""
        self._touched = set(self._writing)

    def compare(self, found: Mapping[K, V]) -> Iterator[Differences[K, V]]:
        """Adopt the objects that a look found, and have those mended that are not as desired.

        Objects written since :meth:`begin_look` are left to the next look. Until desired state is
        complete, those of a former process that it doesn't name stay as they were found.

        Yields:
            Object -> (found, applied) where the two differ, slice by slice; None: missing.
        """
        for keys in _slices(list(self.applied)):
            yield self._compare(found, keys)
        for keys in _slices(found):
            yield self._compare(found, [key for key in keys if key not in self.applied])

    def _compare(self, found: Mapping[K, V], keys: Iterable[K]) -> Differences[K, V]:
        differences = {
            key: (found.get(key), self.applied.get(key))
            for key in keys
            if key not in self._touched and not self._is_same(found.get(key), self.applied.get(key))
        }
        for key, (present, _) in differences.items():
            if present is None:
                del self.applied[key]
            else:
                self.applied[key] = present
        self.touch(
            key
            for key, (_, applied) in differences.items()
            if self.is_complete or applied is None or key in self._desired
        )
        return differences

    def _add(self, key: K) -> None:
        """Note that an object is pending."""
        self._pending[key] = None
        if key in self._desired:
            self._removals.pop(key, None)
        else:
            self._removals[key] = None

    def _add_retries(self, now: float) -> None:
        """Note refused objects that are due again."""
        while self._retries and self._retries[0][0] <= now:
            retry = heappop(self._retries)
            if self._is_due(*retry):
                self._refused[retry[2]].retry_at = RETRYING
                self._add(retry[2])

    def _is_due(self, at: float, _number: int, key: K) -> bool:
        """Tell whether a retry is still that of its object's latest refusal."""
        return key in self._refused and self._refused[key].retry_at == at

    def _refuse(self, key: K, reason: str, now: float) -> None:
        refusal = self._refused.pop(key, None) or _Refusal(reason, self._new_backoff(), now)
        refusal.reason, refusal.retry_at = reason, now + refusal.backoff.next_seconds()
        self._refused[key] = refusal
        heappush(self._retries, (refusal.retry_at, next(self._numbers), key))

    def _is_same(self, present: V | None, wanted: V | None) -> bool:
        if present is None or wanted is None:
            return present is wanted
        return self._matches(present, wanted)


def _slices(keys: Iterable[K]) -> Iterator[list[K]]:
    """Yield keys some at a time."""
    rest = iter(keys)
    while some := list(islice(rest, SLICE)):
        yield some
