"""Lifecycle of endpoints: calls that make a pod talk, under policy from its first packet on, and
undo that. Each leaves the pod connected, or nothing of it (:mod:`~.stages` draws the way).
"""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from cilia.contracts.agent import AuditEndpoint, CreateEndpoint, EndpointReference, RelabelEndpoint
from cilia.contracts.ids import Revision
from cilia.datapath.errors import DatapathError
from cilia.errors import Refused, Unavailable
from cilia.netns import NoNetworkNamespace, open_netns
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.stages import check_repeated, new_pod, pending_step, security_labels
from services.agent.endpoint.steps import Steps
from services.agent.endpoint.store import Pod
from services.agent.endpoint.turns import Turns
from services.agent.endpoint.veth import random_mac
from services.agent.errors import AgentError, NoEndpointId, TooSlow, UnknownEndpoint

log = logging.getLogger(__name__)

RELABEL_SECONDS: Final = 5.0


class EndpointLifecycle:
    """Calls that create, relabel, audit and delete endpoints."""

    def __init__(self, parts: Parts, steps: Steps, turns: Turns) -> None:
        self._parts = parts
        self._steps = steps
        self._turns = turns

    async def create(self, request: CreateEndpoint) -> Pod:
        """Connect a pod; return once its policy is in force.

        Raises:
            AgentError, NoNetworkNamespace: It can't be; nothing is left of it.
            MapFull: The programs can't know another pod; nothing is left of it.
            BadLabel: A label is none.
            Refused, Unavailable: The identity service said no, or nothing; nothing is left of it.
            TooSlow: ``request.timeout_seconds`` passed; nothing is left of it.
        """
        labels = security_labels(request.namespace, request.labels, request.namespace_labels)
        async with self._turns.of(request.namespace, request.name):
            deadline = asyncio.get_running_loop().time() + request.timeout_seconds
            known = self._parts.endpoints.named(request.namespace, request.name)
            if known is not None:
                return await self._repeat(known, request)
            with open_netns(request.netns):
                pass  # it is there; better known before an identity is allocated
            lease = await self._steps.lease(request.timeout_seconds)
            pod = await self._record(request, labels)
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._steps.connect(pod, lease)
            except TimeoutError as error:
                step = pending_step(self._parts.endpoints.get(pod.id) or pod)
                await asyncio.shield(self._steps.undo(pod))
                raise TooSlow(step, request.timeout_seconds) from error
            except (AgentError, DatapathError, NoNetworkNamespace, Refused, Unavailable, asyncio.CancelledError):
                await asyncio.shield(self._steps.undo(pod))
                raise

    async def delete(self, reference: EndpointReference) -> None:
        """Disconnect a pod; one that is gone changes nothing.

        Returns once the kernel is clean of it.
        """
        try:
            pod = self._parts.endpoints.find(reference)
        except UnknownEndpoint:
            return
        async with self._turns.of(pod.namespace, pod.name):
            current = self._parts.endpoints.get(pod.id)
            if current is not None:
                await self._steps.undo(current)

    async def relabel(self, request: RelabelEndpoint) -> Pod:
        """Give a pod other labels; return once the policy of its new identity is in force for it.

        Raises:
            UnknownEndpoint, BadLabel, Refused, Unavailable: Nothing has changed.
        """
        pod = self._parts.endpoints.find(request.endpoint)
        labels = security_labels(pod.namespace, request.labels, request.namespace_labels)
        async with self._turns.of(pod.namespace, pod.name):
            pod = replace(self._parts.endpoints.find(request.endpoint), labels=labels)
            if pod.disconnecting:
                raise UnknownEndpoint("name", pod.full_name)
            published = await self._parts.publisher.publish(pod, await self._steps.lease(RELABEL_SECONDS))
            return await self._steps.adopt_identity(pod, published)

    async def audit(self, request: AuditEndpoint) -> Pod:
        """Begin or end the audit of a pod; its flows are decided anew with their next packet.

        Raises:
            UnknownEndpoint: There is none.
        """
        pod = self._parts.endpoints.find(request.endpoint)
        async with self._turns.of(pod.namespace, pod.name):
            pod = replace(self._parts.endpoints.find(request.endpoint), audit=request.audit)
            self._steps.keep(pod)
            if pod.identity and not pod.disconnecting:
                self._steps.enter(pod)
                for address in pod.numbers:
                    self._parts.renew_flows(address)
            return pod

    async def _repeat(self, pod: Pod, request: CreateEndpoint) -> Pod:
        """Answer the same request once more."""
        check_repeated(pod, request)
        if not self._parts.policy.in_force(pod.identity):
            async with asyncio.timeout(request.timeout_seconds):
                await self._parts.policy.wait_realised(pod.identity, Revision(0))
        return pod

    async def _record(self, request: CreateEndpoint, labels: tuple[str, ...]) -> Pod:
        parts = self._parts
        addresses = await parts.registrar.addresses()
        try:
            endpoint, gateways = parts.endpoints.next_id(), parts.pool.gateways
            pod = new_pod(endpoint, request, labels=labels, addresses=addresses, gateways=gateways, mac=random_mac())
            self._steps.keep(pod)
        except (NoEndpointId, OSError):
            parts.pool.release(addresses)
            raise
        return pod
