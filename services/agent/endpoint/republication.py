"""Republication: rows written again under a new lease, since etcd dropped them with the old one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from cilia.backoff import Backoff
from cilia.contracts.ids import EndpointId
from cilia.notify import Wakeup
from services.agent.endpoint.store import Endpoints

AT_ONCE: Final = 32
"""Rows that are under way at a time."""
RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5.0


class Republication:
    """Writer of rows that a new lease needs. ``run`` goes to the supervisor.

    Args:
        republish: Writes a pod's row again; returns whether that is done with.
    """

    def __init__(self, endpoints: Endpoints, republish: Callable[[EndpointId], Awaitable[bool]]) -> None:
        self._endpoints = endpoints
        self._republish = republish
        self._unpublished: set[EndpointId] = set()
        self._wake = Wakeup()
        self._backoff = Backoff(RETRY_SECONDS, LONGEST_RETRY_SECONDS)

    @property
    def pending(self) -> int:
        """Pods whose rows have to be written again."""
        pods = (self._endpoints.get(endpoint) for endpoint in self._unpublished)
        return sum(pod is not None and not pod.disconnecting for pod in pods)

    def publish_all(self) -> None:
        """Have every row written again under the new lease."""
        self._unpublished.update(pod.id for pod in self._endpoints if not pod.disconnecting)
        self._wake.set()

    async def run(self) -> None:
        """Publish what hangs on a new lease, until cancelled."""
        while True:
            await self._wake.wait()
            some = list(self._unpublished)[:AT_ONCE]
            done = await asyncio.gather(*(self._republish(endpoint) for endpoint in some))
            self._unpublished.difference_update(endpoint for endpoint, ok in zip(some, done, strict=True) if ok)
            if all(done):
                self._backoff.reset()
            else:
                await self._backoff.pause()
            if self._unpublished:
                self._wake.set()
