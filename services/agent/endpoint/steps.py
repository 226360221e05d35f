"""Steps of an endpoint's life: each leaves kernel, records and tables in a state from which a
restart finds its way. :mod:`services.agent.endpoint.lifecycle` decides what follows a failure.
"""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from cilia.contracts.identity_service import Published
from cilia.contracts.ids import Identity, LeaseId
from cilia.errors import Unavailable
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.stages import link_of
from services.agent.endpoint.store import Pod

log = logging.getLogger(__name__)

WITHDRAWAL_SECONDS: Final = 2.0
"""Longest wait of a deletion for identity's answer; after that it goes on in the background."""


class Steps:
    """Steps over the parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def keep(self, pod: Pod) -> None:
        """Know a pod, in memory and on disk."""
        self._parts.records.save(pod)
        self._parts.endpoints.put(pod)

    async def lease(self, seconds: float) -> LeaseId:
        """Return the node's lease.

        Raises:
            Unavailable: The node isn't registered, and wasn't within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._parts.registrar.lease()
        except TimeoutError as error:
            raise Unavailable("ipam", f"the node is not registered ({self._parts.registrar.last_error})") from error

    async def connect(self, pod: Pod, lease: LeaseId) -> Pod:
        """Make a pod's link and publish its row, side by side; then have its policy in force."""
        parts = self._parts
        linked, published = await asyncio.gather(
            self.link(pod), parts.publisher.publish(pod, lease), return_exceptions=True
        )
        if isinstance(linked, BaseException):
            raise linked
        if isinstance(published, BaseException):
            raise published
        pod = replace(linked, identity=published.endpoint.identity)
        self.keep(pod)
        self.enter(pod)
        await parts.policy.wait_realised(pod.identity, published.revision)
        return pod

    async def link(self, pod: Pod) -> Pod:
        """Make a pod's link."""
        return replace(pod, ifindex=await self._parts.links.connect(link_of(pod, self._parts.mtu_bytes)))

    async def adopt_identity(self, pod: Pod, published: Published) -> Pod:
        """Move a pod to the identity of its row, once the policy of that is in force."""
        former, pod = pod.identity, replace(pod, identity=published.endpoint.identity)
        self.keep(pod)
        if pod.identity != former:
            self._parts.policy.ensure(pod.identity)
            await self._parts.policy.wait_realised(pod.identity, published.revision)
            self.enter(pod)
            self._release(former)
        return pod

    def enter(self, pod: Pod) -> None:
        """Make a pod known to the programs, and where it is."""
        slot = self._parts.policy.ensure(pod.identity)
        self._parts.table.put_pod(pod, slot)
        self._parts.ipcache.set_local(pod.numbers, pod.identity)

    async def disconnect(self, pod: Pod) -> asyncio.Event:
        """Clean the kernel of a pod; the event is set once row, address and record are gone."""
        parts = self._parts
        pod = replace(parts.endpoints.get(pod.id) or pod, disconnecting=True)
        self.keep(pod)
        for address in pod.numbers:
            parts.table.remove(address)
        parts.ipcache.set_local(pod.numbers, None)
        await parts.links.disconnect(pod.host_interface)
        for address in pod.numbers:
            parts.purge_flows(address)
        self._release(pod.identity)
        return parts.publisher.withdraw(pod.id, lambda: self._forget(pod))

    async def undo(self, pod: Pod) -> None:
        """Disconnect a pod and wait, for a while, until nothing is left of it."""
        done = await self.disconnect(pod)
        try:
            async with asyncio.timeout(WITHDRAWAL_SECONDS):
                await done.wait()
        except TimeoutError:
            log.info("endpoint is disconnected; its row goes later", extra={"endpoint": pod.full_name})

    def _forget(self, pod: Pod) -> None:
        self._parts.endpoints.remove(pod.id)
        self._parts.records.remove(pod.id)
        self._parts.pool.release(pod.addresses)

    def _release(self, identity: Identity) -> None:
        if not any(not pod.disconnecting for pod in self._parts.endpoints.with_identity(identity)):
            self._parts.policy.release(identity)
