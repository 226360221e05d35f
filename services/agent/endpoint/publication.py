"""Rows of this node's pods in the table of endpoints, written by the identity service, and whether
the nodes whose policy names a pod's identity have that in force: one that hears of it later would
drop what the pod sends there first.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from cilia.backoff import Backoff
from cilia.bus import Bus
from cilia.contracts.agent import AwaitAddresses
from cilia.contracts.identity_service import Published, PublishEndpoint, WithdrawEndpoint
from cilia.contracts.ids import EndpointId, Identity, Incarnation, NodeName, Revision
from cilia.contracts.messages import Empty, ProblemCode, Revised
from cilia.contracts.realisation import Realised, WaitKnown
from cilia.contracts.tables import Endpoint
from cilia.errors import Refused, Unavailable
from cilia.notify import Wakeup
from services.agent.endpoint.store import Pod

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
ATTEMPT_SECONDS: Final = 1.5
"""Wait for an answer: a replica that hangs is asked no more before all attempts are over."""
ANSWER_SECONDS: Final = 0.2
"""Time that whoever waits for us has to answer in the end."""
MOST_ASKED: Final = 64
"""Nodes that are asked for a pod's addresses; of an identity that more of them name, whose policies
are for all, each hears by itself.
"""
RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 5.0


class NotKnown(Exception):
    """Error of nodes that don't know an identity yet."""

    def __init__(self, nodes: tuple[NodeName, ...]) -> None:
        super().__init__(", ".join(nodes))
        self.nodes = nodes


class Publication:
    """Publisher of rows. ``run`` goes to the supervisor."""

    def __init__(self, bus: Bus, node: NodeName) -> None:
        self._bus = bus
        self._node = node
        self._withdrawn: dict[EndpointId, tuple[asyncio.Event, Callable[[], None]]] = {}
        self._aware: dict[Identity, tuple[NodeName, ...]] = {}
        """Identity -> nodes whose policy names it, which have that in force."""
        self._unaware: dict[Identity, tuple[NodeName, ...]] = {}
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
        request = PublishEndpoint(row, pod.labels, incarnation)
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._bus.request(subject, request, Published, timeout=ATTEMPT_SECONDS)
            except Unavailable as error:
                log.info("endpoint %s: attempt %d: %s", pod.full_name, attempt, error)
        return await self._bus.request(subject, request, Published, timeout=ATTEMPT_SECONDS)

    @property
    def unaware(self) -> Mapping[Identity, tuple[NodeName, ...]]:
        """Identity -> nodes that didn't have it in force in time; none are named where the policy
        service didn't tell. An identity that all know isn't there.
        """
        return self._unaware

    async def wait_known(self, pod: Pod, revision: Revision, *, seconds: float) -> None:
        """Wait until all nodes whose policy names a pod's identity know it, and its addresses, for
        ``seconds`` at most.

        Args:
            revision: That of the pod's row.
        """
        try:
            async with asyncio.timeout(seconds):
                nodes = self._aware.get(pod.identity)
                if nodes is None:
                    nodes = self._aware[pod.identity] = await self._wait_identity(pod.identity, revision, seconds)
                if len(nodes) <= MOST_ASKED:
                    await asyncio.gather(*(self._wait_addresses(node, pod, seconds) for node in nodes))
            self._unaware.pop(pod.identity, None)
        except NotKnown as error:
            self._unaware[pod.identity] = error.nodes
        except (Refused, Unavailable, TimeoutError) as error:
            log.info("who knows identity %d is not told: %s", pod.identity, error)
            self._unaware[pod.identity] = ()

    async def _wait_identity(self, identity: Identity, revision: Revision, seconds: float) -> tuple[NodeName, ...]:
        request = WaitKnown(identity, revision, seconds - ANSWER_SECONDS)
        answer = await self._bus.request(self._bus.subjects.request("policy", "known"), request, Realised)
        if not answer.complete:
            raise NotKnown(answer.stragglers)
        return tuple(each.node for each in answer.nodes if each.node != self._node)

    async def _wait_addresses(self, node: NodeName, pod: Pod, seconds: float) -> None:
        request = AwaitAddresses(tuple(filter(None, pod.addresses)), pod.identity, seconds - ANSWER_SECONDS)
        try:
            await self._bus.request(self._bus.subjects.node(node, "addresses-wait"), request, Empty)
        except (Refused, Unavailable) as error:
            raise NotKnown((node,)) from error

    def forget_known(self, identity: Identity) -> None:
        """Forget who knows an identity that has no pod here any more."""
        self._aware.pop(identity, None)
        self._unaware.pop(identity, None)

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
            await self._bus.request(subject, WithdrawEndpoint(self._node, endpoint), Revised, timeout=ATTEMPT_SECONDS)
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
