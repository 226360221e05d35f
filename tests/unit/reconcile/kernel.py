"""Kernel table in memory, with failures to order."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cilia.backoff import Backoff
from cilia.reconcile.plan import Plan, WriteResult
from cilia.reconcile.reconciler import Reconciler


def whole(_: float, most: float) -> float:
    """Randomness without: each pause has its full length."""
    return most


def new_backoff() -> Backoff:
    return Backoff(1.0, 8.0, whole)


@dataclass
class KernelTable:
    """Table of strings that refuses objects by name, and all that exceed its capacity."""

    held: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    capacity: int = 1_000
    writes: list[dict[str, str | None]] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    """Called while a batch is being written."""

    def read(self) -> dict[str, str]:
        return dict(self.held)

    def write(self, changes: Mapping[str, str | None]) -> WriteResult[str]:
        self.writes.append(dict(changes))
        self.during()
        refused = {key: self.refusals[key] for key in changes if key in self.refusals}
        left = []
        for key, value in sorted(changes.items(), key=lambda each: each[1] is not None):
            if key in refused:
                continue
            if value is None:
                self.held.pop(key, None)
            elif key in self.held or len(self.held) < self.capacity:
                self.held[key] = value
            else:
                left.append(key)
        return WriteResult(refused, f"all {self.capacity} entries are in use" if left else "", left)


class Bench:
    """Plan and reconciler over a table in memory; its time moves only when told to."""

    def __init__(self, held: Mapping[str, str] = {}, batch: int = 100) -> None:
        self.kernel = KernelTable(dict(held))
        self.now = 0.0
        self.known = asyncio.Event()
        """Set once desired state is known whole."""
        self.on_known: Callable[[], None] = lambda: None
        self.desired: dict[str, str] = {}
        self.changed: set[str] = set()
        self.plan = Plan(self.desired, self.kernel.read(), new_backoff=new_backoff)
        self.reconciler = Reconciler(
            "entry",
            self.plan,
            self.kernel,
            self._take_changes,
            batch=batch,
            wait_complete=self.wait_complete,
            clock=lambda: self.now,
        )

    def _take_changes(self) -> Iterable[str]:
        changed, self.changed = self.changed, set()
        return sorted(changed)

    async def wait_complete(self) -> None:
        await self.known.wait()
        self.on_known()

    def want(self, key: str, value: str | None) -> None:
        """Change desired state, as rows of a table would."""
        if value is None:
            self.desired.pop(key, None)
        else:
            self.desired[key] = value
        self.changed.add(key)
