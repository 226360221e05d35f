"""Recorder: takes the flows that agents saw, stores them, answers queries, judges shadows.

Only the elected replica records, so there is one writer; the others wait to take over with the
record in etcd.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.bus import Bus
from cilia.calls import Calls, serve
from cilia.contracts.flows import DistinctFlow, FlowPage, ListFlows, RecordedFlow, RecordFlows, ShadowVerdicts
from cilia.contracts.ids import Identity
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.contracts.tables import IDENTITIES, IdentityRow
from cilia.errors import Refused, Unavailable
from cilia.lifecycle import supervise
from cilia.metrics import counter
from cilia.notify import Broadcast, Wakeup
from cilia.policy.observed.record import BadFlows
from cilia.table.subscriber import TableSubscriber
from services.recorder.config import Config
from services.recorder.flow_store import FlowStore
from services.recorder.flow_table import FlowTable, recorded
from services.recorder.shadow_policies import ShadowPolicies

log = logging.getLogger(__name__)

WRITE_SECONDS: Final = 0.25
"""Least distance of two writings."""
STORED_SECONDS: Final = 8.0
"""Time in which an agent's report must be stored."""
IDENTITY_SECONDS: Final = 1.0
"""Time in which identities that a report names must become known."""


@dataclass(slots=True)
class RecorderCounters:
    """Reports and flows that the recorder took."""

    reports: int = counter("reports of agents taken")
    repeated: int = counter("reports that an agent sent again, and that were known")
    unknown: int = counter("flows left out since an identity wasn't known")
    lost: int = counter("distinct flows that agents had no room for")
    shadow_verdicts: int = counter("verdicts of policies in shadow that were published")


class Recorder:
    """Record of flows while this replica leads."""

    def __init__(
        self,
        bus: Bus,
        store: FlowStore,
        config: Config,
        identities: TableSubscriber[Identity, IdentityRow],
        shadows: ShadowPolicies,
        counters: RecorderCounters,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._store = store
        self._config = config
        self._identities = identities
        self._shadows = shadows
        self._counters = counters
        self._clock = clock
        self._table = FlowTable(config.distinct_flows, since_ns=0)
        self._last_batch: dict[str, str] = {}
        self._write_wanted = Wakeup()
        self._written = Broadcast()
        self._begun = self._done = 0  # numbers of the newest writing, and of the newest that succeeded

    @property
    def flows(self) -> int:
        """Number of distinct flows in the record."""
        return len(self._table.rows)

    @property
    def evicted(self) -> int:
        """Number of flows that had to make room, since the record began."""
        return self._table.evicted

    async def run(self) -> None:
        """Load the record, then serve and store it, until cancelled."""
        self._last_batch.clear()
        self._table = await self._store.load(self._config.distinct_flows)
        log.info("recording; %d distinct flows are known", self.flows)
        calls: Calls = {"record": (RecordFlows, self.record), "flows": (ListFlows, self.list)}
        never = asyncio.Event()
        await supervise(
            {
                "calls": lambda: serve(self._bus, "recorder", calls, concurrency=self._config.concurrency),
                "write": self._write,
            },
            stop=never,
        )

    async def list(self, query: ListFlows) -> FlowPage:
        """Answer ``recorder.flows``."""
        return self._table.page(query)

    async def record(self, report: RecordFlows) -> Empty:
        """Answer ``recorder.record``.

        Raises:
            Unavailable: It isn't written yet; the agent sends it again.
        """
        self._counters.reports += 1
        if self._last_batch.get(report.node) == report.batch and report.batch:
            self._counters.repeated += 1
        else:
            self._last_batch[report.node] = report.batch
            self._counters.lost += report.lost
            await self._take(report)
        try:
            async with asyncio.timeout(STORED_SECONDS):
                await self._stored()
        except TimeoutError:
            raise Unavailable("recorder", "the report isn't written yet") from None
        return Empty()

    async def _take(self, report: RecordFlows) -> None:
        flows = []
        for seen in report.flows:
            flow = await self._label(seen)
            if flow is None:
                self._counters.unknown += 1
                continue
            self._table.add(flow)
            flows.append(flow)
        try:
            verdicts = self._shadows.judge_all(flows)
        except BadFlows as error:
            raise Refused(Problem(ProblemCode.INVALID, str(error), "flows")) from error
        if verdicts:
            message = msgspec.json.encode(ShadowVerdicts(report.node, verdicts))
            await self._bus.publish(self._bus.subjects.shadow(), message)
            self._counters.shadow_verdicts += len(verdicts)

    async def _label(self, seen: DistinctFlow) -> RecordedFlow | None:
        """Return a flow with labels; None if an identity stays unknown for too long."""
        flow = recorded(seen, self._labels_of)
        if flow is not None:
            return flow
        try:
            async with asyncio.timeout(IDENTITY_SECONDS):
                await self._identities.wait_until(lambda: recorded(seen, self._labels_of) is not None)
        except TimeoutError:
            return None
        return recorded(seen, self._labels_of)

    def _labels_of(self, identity: Identity) -> tuple[str, ...] | None:
        row = self._identities.rows(IDENTITIES.shard(identity)).get(identity)
        return row.labels if row is not None else None

    async def _stored(self) -> None:
        if not self._table.new:
            return
        awaited = self._begun + 1
        self._write_wanted.set()
        await self._written.wait_until(lambda: self._done >= awaited)

    async def _write(self) -> None:
        """Write new flows at once, and counts now and then, until cancelled."""
        counted = self._clock()
        while True:
            await self._write_wanted.wait(self._config.counts_seconds)
            self._begun += 1
            counts = self._clock() - counted >= self._config.counts_seconds
            try:
                await self._store.write(self._table, counts=counts)
                counted = self._clock() if counts else counted
                self._done = self._begun
            except Unavailable as error:
                log.warning("the record can't be written: %s", error)
                self._write_wanted.set()
            self._written.notify()
            await asyncio.sleep(WRITE_SECONDS)
