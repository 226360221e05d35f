"""Rows of this node's pods in the table of endpoints, written by the identity service."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cilia.backoff import Backoff
from cilia.bus import Bus
from cilia.contracts.identity_service import Published, PublishEndpoint, WithdrawEndpoint
from cilia.contracts.ids import EndpointId, Incarnation, NodeName
from cilia.contracts.messages import ProblemCode, Revised
from cilia.contracts.tables import Endpoint
from cilia.errors import Refused, Unavailable
from cilia.notify import Wakeup
from services.agent.endpoint.store import Pod

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 5.0


class Publication:
    """Publisher of rows. ``run`` goes to the supervisor."""

    def __init__(self, bus: Bus, node: NodeName) -> None:
        self._bus = bus
        self._node = node
        self._withdrawn: dict[EndpointId, tuple[asyncio.Event, Callable[[], None]]] = {}
        self._wake = Wakeup()
        self._backoff = Backoff(RETRY_SECONDS, LONGEST_RETRY_SECONDS)

    @property
    def pending(self) -> int:
        """Withdrawals that identity hasn't answered yet."""
        return len(self._withdrawn)

    async def publish(self, pod: Pod, incarnation: Incarnation) -> Published:
        """Write a pod's row and return it with its identity.

        Raises:
            Refused, Unavailable: See the identity service.
        """
        row = row_of(self._node, pod)
        subject = self._bus.subjects.request("identity", "publish")
        return await self._bus.request(subject, PublishEndpoint(row, pod.labels, incarnation), Published)

    def withdraw(self, endpoint: EndpointId, finished: Callable[[], None]) -> asyncio.Event:
        """Have a pod's row removed; then ``finished`` is called, and the event set."""
        done, _ = self._withdrawn.setdefault(endpoint, (asyncio.Event(), finished))
        self._wake.set()
        return done

    async def run(self) -> None:
        """Withdraw what is pending, until cancelled."""
        while True:
            await self._wake.wait()
            pending = list(self._withdrawn)
            answered = await asyncio.gather(*(self._withdraw(endpoint) for endpoint in pending))
            for endpoint, gone in zip(pending, answered, strict=True):
                if gone:
                    done, finished = self._withdrawn.pop(endpoint)
                    finished()
                    done.set()
            if all(answered):
                self._backoff.reset()
            else:
                await self._backoff.pause()
                self._wake.set()

    async def _withdraw(self, endpoint: EndpointId) -> bool:
        subject = self._bus.subjects.request("identity", "withdraw")
        try:
            await self._bus.request(subject, WithdrawEndpoint(self._node, endpoint), Revised)
        except Unavailable as error:
            log.info("endpoint %d is not withdrawn yet: %s", endpoint, error)
            return False
        except Refused as refused:
            log.warning("endpoint %d is not withdrawn: %s", endpoint, refused)
            return refused.problem.code is ProblemCode.NOT_FOUND
        return True


def row_of(node: NodeName, pod: Pod) -> Endpoint:
    """Return the row that a pod has in the table of endpoints."""
    return Endpoint(node, pod.id, pod.identity, pod.ipv4, pod.ipv6, pod.namespace, pod.name, pod.named_ports)
