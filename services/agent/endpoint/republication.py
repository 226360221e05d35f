"""Comparison of the node's rows in the cluster with its pods, and what it takes to have them agree.

It follows each registration: rows that are as they should be are not written again. Those of a node
that was removed meanwhile are missing; pods of a block that is another node's now have to go; rows
without a pod, of a node that lost its records, are withdrawn.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from cilia.backoff import Backoff
from cilia.contracts.ids import EndpointId, NodeName, Revision
from cilia.contracts.tables import ENDPOINTS, Endpoint, EndpointKey
from cilia.notify import Wakeup
from cilia.table.subscriber import TableSubscriber
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.publication import row_of

log = logging.getLogger(__name__)

AT_ONCE: Final = 32
"""Rows that are under way at a time."""
RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5.0


class Rows(Protocol):
    """Rows that the cluster has of this node's pods."""

    async def at_least(self, revision: Revision) -> Mapping[EndpointId, Endpoint]:
        """Return them as of a revision or later; wait for it."""
        ...


class OwnRows:
    """Rows of one node, from the agent's mirror of the table of endpoints."""

    def __init__(self, table: TableSubscriber[EndpointKey, Endpoint], node: NodeName) -> None:
        self._table = table
        self._node = node
        self._shard = ENDPOINTS.shard(EndpointKey(node, EndpointId(0)))

    async def at_least(self, revision: Revision) -> Mapping[EndpointId, Endpoint]:
        """Return them as of a revision or later; wait for it."""
        await self._table.wait_sequence(self._shard, revision)
        return {key.id: row for key, row in self._table.rows(self._shard).items() if key.node == self._node}


class Lifecycle(Protocol):
    """Lives of pods (services.agent.endpoint.lifecycle)."""

    async def republish(self, endpoint: EndpointId) -> bool: ...

    async def drop_lost(self, endpoint: EndpointId) -> None: ...


class Republication:
    """Keeper of the node's rows. ``run`` goes to the supervisor."""

    def __init__(self, parts: Parts, lifecycle: Lifecycle, rows: Rows, node: NodeName) -> None:
        self._parts = parts
        self._lifecycle = lifecycle
        self._rows = rows
        self._node = node
        self._registered_at: Revision | None = None
        self._unchecked: set[EndpointId] = set()
        self._unpublished: set[EndpointId] = set()
        self._wake = Wakeup()
        self._backoff = Backoff(RETRY_SECONDS, LONGEST_RETRY_SECONDS)

    @property
    def pending(self) -> int:
        """Pods whose rows have to be compared or written."""
        pods = (self._parts.endpoints.get(endpoint) for endpoint in self._unpublished | self._unchecked)
        return sum(pod is not None and not pod.disconnecting for pod in pods)

    def compare(self, revision: Revision) -> None:
        """Have the pods of now compared with the rows as of a registration."""
        self._unchecked = {pod.id for pod in self._parts.endpoints if not pod.disconnecting}
        self._registered_at = revision
        self._wake.set()

    async def run(self) -> None:
        """Compare and publish, until cancelled."""
        while True:
            await self._wake.wait()
            if self._registered_at is not None:
                await self._compare(self._registered_at)
            some = list(self._unpublished)[:AT_ONCE]
            done = await asyncio.gather(*(self._lifecycle.republish(endpoint) for endpoint in some))
            self._unpublished.difference_update(endpoint for endpoint, ok in zip(some, done, strict=True) if ok)
            if all(done):
                self._backoff.reset()
            else:
                await self._backoff.pause()
            if self._unpublished:
                self._wake.set()

    async def _compare(self, revision: Revision) -> None:
        for endpoint in list(self._unchecked):
            await self._lifecycle.drop_lost(endpoint)
        rows = await self._rows.at_least(revision)
        if self._registered_at != revision:  # registered anew meanwhile: what was read may be of before
            self._wake.set()
            return
        self._registered_at = None
        for pod in self._parts.endpoints:
            if pod.id in self._unchecked and not pod.disconnecting and row_of(self._node, pod) != rows.get(pod.id):
                self._unpublished.add(pod.id)
        self._unchecked.clear()
        for endpoint in rows:
            if self._parts.endpoints.get(endpoint) is None:
                self._withdraw(endpoint)

    def _withdraw(self, endpoint: EndpointId) -> None:
        log.warning("row %s of this node has no pod, and goes", endpoint)
        self._parts.endpoints.reserve(endpoint)
        self._parts.publisher.withdraw(endpoint, lambda: self._parts.endpoints.free(endpoint))
