"""What the elected replica does: take what agents saw, answer who asks, write it down, judge
shadows.

Only one replica records at a time, so there is one writer; the others wait to take over with what
is in etcd.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.bus import Bus
from cilia.calls import Calls, serve
from cilia.contracts.flows import FlowPage, ListFlows, RecordedFlow, RecordFlows, SeenFlow, ShadowVerdicts
from cilia.contracts.ids import Identity
from cilia.contracts.messages import Empty, Problem
from cilia.contracts.tables import IDENTITIES, IdentityRow
from cilia.errors import Refused, Unavailable
from cilia.kvstore import Election
from cilia.lifecycle import supervise
from cilia.metrics import counter
from cilia.policy.observed.recorded import BadFlows
from cilia.table.subscriber import TableSubscriber
from services.recorder.config import Config
from services.recorder.flow_store import FlowStore
from services.recorder.flow_table import FlowTable, recorded
from services.recorder.shadow_policies import ShadowPolicies

log = logging.getLogger(__name__)

ELECTION_POLL_SECONDS: Final = 0.1
WRITE_SECONDS: Final = 0.25
STORED_SECONDS: Final = 8.0
"""How long an agent's report waits until it is written."""
IDENTITY_SECONDS: Final = 1.0
"""How long a report waits for identities that it names."""


@dataclass(slots=True)
class RecorderCounters:
    """What the recorder did."""

    reports: int = counter("reports of agents taken")
    repeated: int = counter("reports that an agent sent again, and that were known")
    unknown: int = counter("flows left out since an identity wasn't known")
    lost: int = counter("distinct flows that agents had no room for")
    shadow_verdicts: int = counter("verdicts of policies in shadow that were published")


class Recorder:
    """The record while this replica leads."""

    def __init__(
        self,
        bus: Bus,
        store: FlowStore,
        config: Config,
        identities: TableSubscriber[Identity, IdentityRow],
        shadows: ShadowPolicies,
        counters: RecorderCounters,
    ) -> None:
        self._bus = bus
        self._store = store
        self._config = config
        self._identities = identities
        self._shadows = shadows
        self._counters = counters
        self._table = FlowTable(config.distinct_flows, since_ns=0)
        self._last_batch: dict[str, str] = {}
        self._wanted = asyncio.Event()
        self._written = asyncio.Event()
        self._begun = self._done = 0  # numbers of the newest writing, and of the newest that succeeded

    @property
    def flows(self) -> int:
        """How many distinct flows are known here."""
        return len(self._table.rows)

    @property
    def evicted(self) -> int:
        """How many had to make room, since the record began."""
        return self._table.evicted

    async def run(self) -> None:
        """Read the record, then keep it, until cancelled."""
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
            flow = await self._name(seen)
            if flow is None:
                self._counters.unknown += 1
                continue
            self._table.add(flow)
            flows.append(flow)
        try:
            verdicts = self._shadows.judge_all(flows)
        except BadFlows as error:
            raise Refused(Problem("invalid", str(error), "flows")) from error
        if verdicts:
            message = msgspec.json.encode(ShadowVerdicts(report.node, verdicts))
            await self._bus.publish(self._bus.subjects.shadow(), message)
            self._counters.shadow_verdicts += len(verdicts)

    async def _name(self, seen: SeenFlow) -> RecordedFlow | None:
        """Return a flow with labels; a young identity may take a moment to be heard of."""
        deadline = time.monotonic() + IDENTITY_SECONDS
        while True:
            flow = recorded(seen, self._labels_of)
            if flow is not None or time.monotonic() > deadline:
                return flow
            await asyncio.sleep(0.1)

    def _labels_of(self, identity: Identity) -> tuple[str, ...] | None:
        row = self._identities.rows(IDENTITIES.shard(identity)).get(identity)
        return row.labels if row is not None else None

    async def _stored(self) -> None:
        if not self._table.new:
            return
        awaited = self._begun + 1
        self._wanted.set()
        while self._done < awaited:
            await self._written.wait()

    async def _write(self) -> None:
        """Write new flows at once, and counts now and then, until cancelled."""
        counted = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(self._config.counts_seconds):
                    await self._wanted.wait()
            except TimeoutError:
                log.debug("nothing new; counts are written")
            self._wanted.clear()
            self._begun += 1
            counts = time.monotonic() - counted >= self._config.counts_seconds
            try:
                await self._store.write(self._table, counts=counts)
                counted = time.monotonic() if counts else counted
                self._done = self._begun
            except Unavailable as error:
                log.warning("the record can't be written: %s", error)
                self._wanted.set()
            self._written.set()
            self._written.clear()
            await asyncio.sleep(WRITE_SECONDS)


async def run_while_elected(election: Election, hold: Callable[[], Awaitable[None]]) -> None:
    """Have ``hold`` run while this replica is elected; until cancelled."""
    while True:
        if not election.leading:
            await asyncio.sleep(ELECTION_POLL_SECONDS)
            continue
        holding = asyncio.ensure_future(hold())
        try:
            while election.leading and not holding.done():
                await asyncio.wait((holding,), timeout=ELECTION_POLL_SECONDS)
            if holding.done():
                await holding
        except Unavailable as error:
            log.warning("can't record: %s", error)
            await asyncio.sleep(1.0)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
