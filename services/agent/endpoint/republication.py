"""Republication: rows written again under a new lease, since etcd dropped them with the old one."""

import asyncio
import logging
from typing import Final

from cilia.backoff import Backoff
from cilia.contracts.ids import EndpointId
from cilia.errors import Refused, Unavailable
from cilia.notify import Wakeup
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.steps import Steps
from services.agent.endpoint.store import Pod
from services.agent.endpoint.turns import Turns

log = logging.getLogger(__name__)

AT_ONCE: Final = 32
"""Rows that are under way at a time."""
RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 5.0


class Republication:
    """Writer of rows that a new lease needs. ``run`` goes to the supervisor."""

    def __init__(self, parts: Parts, steps: Steps, turns: Turns) -> None:
        self._parts = parts
        self._steps = steps
        self._turns = turns
        self._unpublished: set[EndpointId] = set()
        self._wake = Wakeup()
        self._backoff = Backoff(RETRY_SECONDS, LONGEST_RETRY_SECONDS)

    @property
    def pending(self) -> int:
        """Pods whose rows have to be written again."""
        return sum(self._pod(endpoint) is not None for endpoint in self._unpublished)

    def publish_all(self) -> None:
        """Have every row written again under the new lease."""
        self._unpublished.update(pod.id for pod in self._parts.endpoints if not pod.disconnecting)
        self._wake.set()

    async def run(self) -> None:
        """Publish what hangs on a new lease, until cancelled."""
        while True:
            await self._wake.wait()
            some = list(self._unpublished)[:AT_ONCE]
            done = await asyncio.gather(*(self._publish(endpoint) for endpoint in some))
            self._unpublished.difference_update(endpoint for endpoint, ok in zip(some, done, strict=True) if ok)
            if all(done):
                self._backoff.reset()
            else:
                await self._backoff.pause()
            if self._unpublished:
                self._wake.set()

    async def _publish(self, endpoint: EndpointId) -> bool:
        """Publish a pod; tell whether that is done with, also since the pod has gone."""
        pod = self._pod(endpoint)
        if pod is None:
            return True
        async with self._turns.of(pod.namespace, pod.name):
            pod = self._pod(endpoint)
            if pod is None:
                return True
            try:
                published = await self._parts.publisher.publish(pod, await self._parts.registrar.lease())
            except (Refused, Unavailable) as error:
                log.warning("endpoint %s is not published: %s", pod.full_name, error)
                return False
            await self._steps.adopt_identity(pod, published)
            return True

    def _pod(self, endpoint: EndpointId) -> Pod | None:
        pod = self._parts.endpoints.get(endpoint)
        return None if pod is None or pod.disconnecting else pod
