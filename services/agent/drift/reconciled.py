"""Drift of a table that a reconciler keeps: compared with its plan, object by object."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic

from cilia.reconcile.plan import K, V
from cilia.reconcile.reconciler import Reconciler
from services.agent.drift.reporter import Drift, some_of


class ReconciledDrift(Generic[K, V]):
    """Looks at a table, and has its reconciler mend what differs.

    Args:
        part: Noun for the table, as users read it.
        read: Returns the objects in the kernel.
        in_thread: Runs a function that reads in a thread of its own.
        describe: Returns an object's key in words, and
        state: its value.
    """

    def __init__(
        self,
        part: str,
        reconciler: Reconciler[K, V],
        read: Callable[[], Mapping[K, V]],
        in_thread: Callable[..., Awaitable[Any]],
        *,
        describe: Callable[[K], str] = str,
        state: Callable[[V], str] = str,
    ) -> None:
        self._part = part
        self._reconciler = reconciler
        self._read = read
        self._in_thread = in_thread
        self._describe = describe
        self._state = state

    async def look(self) -> list[Drift]:
        """Compare once; return what was wrong."""
        self._reconciler.plan.begin_look()
        wrong = await self._reconciler.compare(await self._in_thread(self._read))
        described = (
            f"{self._describe(key)} was {self._in_words(present)}, not {self._in_words(written)}"
            for key, (present, written) in wrong.items()
        )
        return [some_of(self._part, described, len(wrong))]

    def _in_words(self, value: V | None) -> str:
        return "missing" if value is None else self._state(value)
