"""Plan for the objects of one kernel table: desired and applied state in, batches of writes out.

Pure: time comes in as ``now`` in seconds, randomness with the backoffs.

::

    desired changes: touch ->+
    drift: compare --------->+--> pending --take--> writing --finish--> applied
    all is known: complete ->+      ^                  |
                                    +--- its pause ----+ refused (one object), or full (the table)

An object is removed because desired state named it once and does no more. What a former process
left and nobody names is pruned only after :meth:`Plan.complete`.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from cilia.backoff import Backoff

K = TypeVar("K")
V = TypeVar("V")

RETRYING: Final = float("inf")
"""Time of a retry that has begun."""


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
        self._writing: set[K] = set()
        self._refused: dict[K, _Refusal] = {}
        self._full_backoff = new_backoff()
        self._full_until = 0.0
        self._touched: set[K] = set()
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
        return len(self._pending) + sum(key not in self._pending for key in self._refused)

    @property
    def refused(self) -> dict[K, str]:
        """Objects that the kernel refused at the latest attempt, and its reasons."""
        return {key: refusal.reason for key, refusal in self._refused.items()}

    def status(self, key: K) -> Status:
        """Return the state of one object, desired or not."""
        if self._is_same(self.applied.get(key), self._desired.get(key)):
            return Status.DONE
        return Status.ERROR if key in self._refused or (self.full and key in self._pending) else Status.PENDING

    def touch(self, keys: Iterable[K]) -> None:
        """Note objects whose desired state may have changed; refused ones are retried at once."""
        for key in keys:
            self._pending[key] = None
            self._refused.pop(key, None)

    def complete(self) -> int:
        """Note that desired state is known whole; return how many objects are to be pruned."""
        self.is_complete = True
        stale = [key for key in self.applied if key not in self._desired]
        self.touch(stale)
        return len(stale)

    def take(self, now: float, limit: int, urgent: Iterable[K] | None = None) -> dict[K, V | None]:
        """Return objects to write, None for those to remove; to be given to :meth:`finish` next.

        A full table gets removals only, until its pause is over or something was removed.

        Args:
            urgent: Objects to write now, of all that is pending, even into a full table.
        """
        for key, refusal in self._refused.items():
            if refusal.retry_at <= now:
                refusal.retry_at = RETRYING
                self._pending[key] = None
        removals_only = urgent is None and self.full and now < self._full_until
        batch: dict[K, V | None] = {}
        idle: list[K] = []
        for key in self._pending if urgent is None else filter(self._pending.__contains__, urgent):
            wanted = self._desired.get(key)
            if key in self._writing or (removals_only and wanted is not None):
                continue
            if self._is_same(self.applied.get(key), wanted):
                idle.append(key)
            elif len(batch) < limit:
                batch[key] = wanted
            else:
                break
        for key in (*idle, *batch):
            del self._pending[key]
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
                self._pending[key] = None
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
        times = [each.retry_at for each in self._refused.values() if each.retry_at != RETRYING]
        if self.full and self._pending:
            times.append(self._full_until)
        return min(times, default=None)

    def begin_look(self) -> None:
        """Note that the table is about to be read; writes from now on make its objects doubtful."""
        self._touched = set(self._writing)

    @property
    def is_undisturbed(self) -> bool:
        """Nothing was written since :meth:`begin_look`."""
        return not self._touched

    def compare(self, found: Mapping[K, V]) -> dict[K, tuple[V | None, V | None]]:
        """Adopt the objects that a look found, and have those mended that are not as desired.

        Objects written since :meth:`begin_look` are left to the next look. Until desired state is
        complete, those of a former process that it doesn't name stay as they were found.

        Returns:
            Object -> (found, applied) where the two differ; None: missing.
        """
        differences = {
            key: (found.get(key), self.applied.get(key))
            for key in {**self.applied, **found}
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

    def _refuse(self, key: K, reason: str, now: float) -> None:
        refusal = self._refused.pop(key, None) or _Refusal(reason, self._new_backoff(), now)
        refusal.reason, refusal.retry_at = reason, now + refusal.backoff.next_seconds()
        self._refused[key] = refusal

    def _is_same(self, present: V | None, wanted: V | None) -> bool:
        if present is None or wanted is None:
            return present is wanted
        return self._matches(present, wanted)
