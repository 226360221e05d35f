"""Heartbeats of the nodes' agents, heard by the elected replica in memory.

A heartbeat writes nothing; etcd hears only of a node that falls silent or is heard again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from cilia.bus import Bus
from cilia.calls import serve_alone
from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import Heartbeat
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Empty
from cilia.contracts.tables import Staleness
from cilia.errors import Refused, Unavailable
from cilia.kvstore import Compare, Etcd, Txn, absent, delete, present, put, unchanged, value_is
from cilia.metrics import counter
from services.ipam.cache import IpamCache
from services.ipam.errors import NotRegistered
from services.ipam.liveness import Dead, Fresh, Liveness, Stale
from services.ipam.removal import Removal

log = logging.getLogger(__name__)

CONCURRENCY: Final = 4096
"""Heartbeats under way at once: after a pause of the bus, all agents send one."""


@dataclass(slots=True)
class LivenessCounters:
    """Counts of what became of silent nodes."""

    fell_silent: int = counter("nodes that became stale")
    returned: int = counter("stale nodes that were heard again")
    declared_dead: int = counter("nodes that were removed since they were silent for too long")


@dataclass(slots=True)
class Heartbeats:
    """Listener to heartbeats. ``run`` is for the elected replica, for as long as it is that.

    Attributes:
        office: Condition under which this replica is the elected one, for etcd to check.
        stale_seconds, dead_seconds: See :class:`Liveness`.
    """

    bus: Bus
    etcd: Etcd
    keys: Keys
    cache: IpamCache
    removal: Removal
    office: Compare
    stale_seconds: float
    dead_seconds: float
    clock: Callable[[], float] = time.monotonic
    wall_ns: Callable[[], int] = time.time_ns
    counters: LivenessCounters = field(default_factory=LivenessCounters)
    _liveness: Liveness = field(init=False)
    _members: dict[NodeName, Incarnation] = field(default_factory=dict)

    async def run(self) -> None:
        """Hear heartbeats and watch over silence, from a fresh start, until cancelled."""
        self._liveness = Liveness(self.stale_seconds, self.dead_seconds)
        self._members = {}
        async with asyncio.TaskGroup() as group:
            calls = {"heartbeat": (Heartbeat, self.hear)}
            group.create_task(serve_alone(self.bus, "ipam", calls, concurrency=CONCURRENCY))
            group.create_task(self._watch())

    async def hear(self, request: Heartbeat) -> Empty:
        """Take note of a heartbeat.

        Raises:
            NotRegistered: The node has been removed since.
        """
        name = request.node
        if name not in self.cache.nodes or self._members.get(name) != request.incarnation:
            await self._verify(name, request.incarnation)
        self._liveness.hear(name)
        return Empty()

    async def _verify(self, name: NodeName, incarnation: Incarnation) -> None:
        """Ask etcd, which knows of a registration before the cache does."""
        found = await self.etcd.get(self.keys.node(name))
        if found is None or found.create_revision != incarnation:
            raise NotRegistered(name, incarnation)
        self._members[name] = incarnation

    async def _watch(self) -> None:
        before = self.clock()
        while True:
            await asyncio.sleep(self._liveness.sweep_seconds)
            answers = await self._bus_answers()
            now = self.clock()
            stale = self.cache.stale.keys()
            steps = self._liveness.sweep(tuple(self.cache.nodes), stale, now - before, bus_answers=answers)
            before = now
            try:
                await self._tell([step for step in steps if not isinstance(step, Dead)])
                for step in steps:
                    if isinstance(step, Dead):
                        await self._declare_dead(step)
            except (Unavailable, Refused) as error:  # the next sweep says the same again
                log.warning("what is known of silent nodes is not written: %s", error)

    async def _bus_answers(self) -> bool:
        try:
            await self.bus.flush(timeout=self._liveness.sweep_seconds)
        except Unavailable:
            return False
        return True

    async def _tell(self, steps: Sequence[Stale | Fresh]) -> None:
        """Write who is stale, all at once: group commit makes few transactions of it."""
        outcomes = await asyncio.gather(*(self.etcd.txn(self._mark(step)) for step in steps))
        for step in (step for step, outcome in zip(steps, outcomes, strict=True) if outcome.succeeded):
            match step:
                case Stale(node, seconds):
                    self.counters.fell_silent += 1
                    log.warning("node %s is stale, silent for %.0f s; all that it has stays", node, seconds)
                case Fresh(node):
                    self.counters.returned += 1
                    log.warning("node %s is heard again", node)

    def _mark(self, step: Stale | Fresh) -> Txn:
        key = self.keys.stale_node(step.node)
        match step:
            case Stale(node, seconds):
                since_ns = self.wall_ns() - int(seconds * 1e9)
                mark = put(key, msgspec.json.encode(Staleness(since_ns, self.dead_seconds)))
                return Txn((self.office, present(self.keys.node(node)), absent(key)), (mark,))
            case Fresh():
                return Txn((self.office, present(key)), (delete(key),))
            case _:
                assert_never(step)

    async def _declare_dead(self, dead: Dead) -> None:
        mark = self.cache.stale.get(dead.node)
        if mark is None:
            return
        conditions = (self.office, unchanged(self.keys.stale_node(dead.node), mark.revision))
        removed = await self.removal.remove(dead.node, conditions=conditions)
        if removed is None:
            return
        self.counters.declared_dead += 1
        log.error(
            "node %s is declared dead, silent for %.0f s: its blocks and endpoints are removed",
            dead.node,
            dead.silent_seconds,
        )


def office(keys: Keys, replica: str) -> Compare:
    """Return the condition that a replica leads ipam."""
    return value_is(keys.leader("ipam"), replica.encode())
