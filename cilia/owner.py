"""What every service does that owns tables whose truth is in etcd: mirror, publish while elected,
answer, report.

A service mirrors etcd in one loop, in the order of revisions. Each step becomes one commit of each
of its tables, also where it changes none of their rows, so that every table knows how far it is.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cilia.bus import Bus
from cilia.calls import Calls, serve
from cilia.contracts.keys import Keys
from cilia.health import serve_health
from cilia.kvstore import Changes, Election, Etcd, Reset, Txn, absent, get, put
from cilia.lifecycle import Loop, supervise
from cilia.metrics import Metrics
from cilia.table.publisher import TablePublisher
from cilia.telemetry import TelemetryConfig, open_telemetry

K = TypeVar("K")
V = TypeVar("V")

ELECTION_POLL_SECONDS: Final = 0.1


async def ensure_epoch(etcd: Etcd, keys: Keys) -> int:
    """Return the name of etcd's history, which the first service to ask sets to the time (Unix, in
    seconds).

    An etcd that lost its data so begins a greater epoch by itself. After a restore from a backup,
    delete the key and restart the services: revisions of before and after must not be mixed.
    """
    now = str(int(time.time())).encode()
    outcome = await etcd.txn(Txn((absent(keys.epoch),), (put(keys.epoch, now),), (get(keys.epoch),)))
    return int(now if outcome.succeeded else outcome.value(keys.epoch) or b"1")


def hand_over(
    publisher: TablePublisher[K, V],
    rows: Mapping[K, V | None],
    step: Reset | Changes,
    *,
    epoch: int,
    traceparent: str = "",
) -> None:
    """Pass what a step of the mirror means for a table on to its publisher; None stands for a
    removed row.
    """
    upserts = {key: row for key, row in rows.items() if row is not None}
    match step:
        case Reset(revision):
            publisher.reset(upserts, revision, epoch)
        case Changes(revision=revision):
            removes = [key for key, row in rows.items() if row is None]
            publisher.commit(revision, upserts, removes, traceparent=traceparent)


async def publish_while_elected(election: Election, publishers: Sequence[TablePublisher[Any, Any]]) -> None:
    """Have the tables published while this replica is elected; until cancelled."""
    leading = False
    while True:
        if election.leading != leading:
            leading = election.leading
            for publisher in publishers:
                if leading:
                    publisher.lead()
                else:
                    publisher.follow()
        await asyncio.sleep(ELECTION_POLL_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A replica of a service that owns tables, ready to run.

    Attributes:
        publishers: Of its tables.
        calls: What it answers to, once ``ready``: its mirror holds the whole state.
        loops: Its own, beside those that every owner has; one of them is the mirror.
    """

    service: str
    bus: Bus
    election: Election
    publishers: Sequence[TablePublisher[Any, Any]]
    calls: Calls
    concurrency: int
    loops: Mapping[str, Loop]
    ready: asyncio.Event
    metrics: Metrics
    telemetry: TelemetryConfig

    async def run(self, stop: asyncio.Event) -> None:
        """Run all loops until ``stop``."""
        for publisher in self.publishers:
            self.metrics.count("publisher", publisher.counters, table=publisher.name)
        self.metrics.gauge("leading", "1 while this replica publishes the tables", lambda: self.election.leading)
        tables = {name: loop for publisher in self.publishers for name, loop in publisher.loops().items()}
        with open_telemetry(self.telemetry, self.service, self.metrics):
            await supervise(
                {
                    **self.loops,
                    "requests": self._answer,
                    **tables,
                    "election": self.election.run,
                    "leadership": lambda: publish_while_elected(self.election, self.publishers),
                    "health": lambda: serve_health(self.telemetry.listen, self.metrics, self._ailment),
                },
                stop=stop,
            )

    async def _answer(self) -> None:
        await self.ready.wait()
        await serve(self.bus, self.service, self.calls, concurrency=self.concurrency)

    def _ailment(self) -> str:
        return "" if self.ready.is_set() else "no state yet"
