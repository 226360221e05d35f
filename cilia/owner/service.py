"""A replica of a service that owns tables: all its loops, joined under the supervisor."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cilia.calls import Calls, serve
from cilia.health import serve_health
from cilia.kvstore import Election
from cilia.lifecycle import Loop, supervise
from cilia.metrics import Metrics
from cilia.owner.leadership import publish_while_elected
from cilia.owner.resources import Resources
from cilia.table.publisher import TablePublisher
from cilia.telemetry import open_telemetry


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A replica of a service that owns tables, ready to run.

    Attributes:
        publishers: Publishers of its tables.
        calls: Calls that it answers once it is ``ready``: its cache holds the whole state.
        loops: Its own, beside those that every owner has; one of them is the informer.
    """

    resources: Resources
    election: Election
    publishers: Sequence[TablePublisher[Any, Any]]
    calls: Calls
    loops: Mapping[str, Loop]
    ready: asyncio.Event
    metrics: Metrics

    async def run(self) -> None:
        """Run all loops until the replica is told to stop."""
        service, telemetry = self.resources.service, self.resources.config.telemetry
        for publisher in self.publishers:
            self.metrics.count("publisher", publisher.counters, table=publisher.name)
        self.metrics.gauge("leading", "1 while this replica publishes the tables", lambda: self.election.leading)
        tables = {name: loop for publisher in self.publishers for name, loop in publisher.loops().items()}
        with open_telemetry(telemetry, service, self.metrics):
            await supervise(
                {
                    **self.loops,
                    "requests": self._answer,
                    **tables,
                    "election": self.election.run,
                    "leadership": lambda: publish_while_elected(self.election, self.publishers),
                    "health": lambda: serve_health(telemetry.listen, self.metrics, self._ailment),
                },
                stop=self.resources.stop,
            )

    async def _answer(self) -> None:
        await self.ready.wait()
        resources = self.resources
        await serve(resources.bus, resources.service, self.calls, concurrency=resources.config.concurrency)

    def _ailment(self) -> str:
        return "" if self.ready.is_set() else "no state yet"
