"""Garbage collection of identities: carries out the rounds, on the elected replica only."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from cilia.contracts.keys import Keys
from cilia.errors import Unavailable
from cilia.kvstore import Etcd, Txn, absent, absent_prefix, delete, put, unchanged
from cilia.metrics import counter
from services.identity.cache import IdentityCache
from services.identity.gc_plan import Delete, Mark, Step, Unmark, plan_round

log = logging.getLogger(__name__)


@dataclass(slots=True)
class GCCounters:
    """Steps of garbage collection that were carried out."""

    marked: int = counter("identities marked as unused")
    deleted: int = counter("identities deleted")
    kept: int = counter("identities that came into use, or changed, while they were being collected")
    failed_rounds: int = counter("rounds that ended early since the kvstore did not answer")


@dataclass(frozen=True, slots=True)
class IdentityGC:
    """Marks and deletes unused identities."""

    etcd: Etcd
    keys: Keys
    cache: IdentityCache
    elected: Callable[[], bool]
    round_seconds: float
    steps_per_second: float
    counters: GCCounters

    async def run(self) -> None:
        """Do a round every ``round_seconds`` until cancelled."""
        marks_before = dict(self.cache.marks)
        while True:
            await asyncio.sleep(self.round_seconds)
            if not self.elected():
                marks_before = {}
                continue
            marks = dict(self.cache.marks)
            steps = plan_round(
                unused=self.cache.unused(),
                marks=marks,
                marks_before=marks_before,
                known=self.cache.identities,
            )
            marks_before = marks
            try:
                await self._carry_out(steps)
            except Unavailable as error:  # the next round sees what is left
                self.counters.failed_rounds += 1
                log.warning("a round of garbage collection ended early: %s", error)

    async def _carry_out(self, steps: list[Step]) -> None:
        for step in steps:
            if not self.elected():
                return
            outcome = await self.etcd.txn(self._transaction(step))
            match step, outcome.succeeded:
                case Mark(), True:
                    self.counters.marked += 1
                case Delete(identity=identity), True:
                    self.counters.deleted += 1
                    log.info("deleted an unused identity", extra={"identity": identity})
                case _, False:
                    self.counters.kept += 1
            await asyncio.sleep(1 / self.steps_per_second)

    def _transaction(self, step: Step) -> Txn:
        keys = self.keys
        mark, master = keys.identity_unused(step.identity), keys.identity(step.identity)
        match step:
            case Mark(_, master_revision):
                return Txn((unchanged(master, master_revision), absent(mark)), (put(mark, b""),))
            case Unmark(_, mark_revision):
                return Txn((unchanged(mark, mark_revision), absent(master)), (delete(mark),))
            case Delete(identity, mark_revision, canonical):
                value = keys.identity_value(canonical)
                unreferenced = absent_prefix(f"{keys.identity_refs}{identity}/")
                return Txn(
                    (unchanged(mark, mark_revision), unreferenced),
                    (delete(master), delete(value), delete(mark)),
                )
            case _:
                assert_never(step)
