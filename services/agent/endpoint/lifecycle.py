"""Lifecycle of endpoints: calls that make a pod talk, under policy from its first packet on, and
undo that. Each leaves the pod connected, or nothing of it (:mod:`~.stages` draws the way), and each
step leaves kernel, records and tables in a state from which a restart finds its way.
"""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from cilia.contracts.agent import AuditEndpoint, CreateEndpoint, EndpointReference, RelabelEndpoint
from cilia.contracts.identity_service import Published
from cilia.contracts.ids import EndpointId, Identity, Incarnation, Revision
from cilia.datapath.errors import DatapathError
from cilia.errors import Refused, Unavailable
from cilia.netns import NoNetworkNamespace, netns_inode
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.stages import check_repeated, link_of, new_pod, pending_step, security_labels
from services.agent.endpoint.store import Pod
from services.agent.endpoint.turns import Turns
from services.agent.endpoint.veth import random_mac
from services.agent.errors import AgentError, NoEndpointId, TooSlow, UnknownEndpoint

log = logging.getLogger(__name__)

RELABEL_SECONDS: Final = 5.0
KNOWN_SECONDS: Final = 1.0
"""Longest wait for the nodes whose policy names a pod's identity; then the answer names the others.
"""
WITHDRAWAL_SECONDS: Final = 2.0
"""Longest wait of a deletion for identity's answer; after that it goes on in the background."""


class EndpointLifecycle:
    """Calls that create, relabel, audit and delete endpoints, and their steps."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._turns = Turns()

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
            inode = netns_inode(request.netns)  # it is there; better known before an identity is allocated
            if known is not None and not await self._is_replaced(known, request, inode):
                return await self._repeat(known, request)
            incarnation = await self._incarnation(request.timeout_seconds)
            pod = await self._record(request, labels, inode)
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._connect(pod, incarnation)
            except TimeoutError as error:
                step = pending_step(self._parts.endpoints.get(pod.id) or pod)
                await asyncio.shield(self._undo(pod))
                raise TooSlow(step, request.timeout_seconds) from error
            except (AgentError, DatapathError, NoNetworkNamespace, Refused, Unavailable, asyncio.CancelledError):
                await asyncio.shield(self._undo(pod))
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
                await self._undo(current)

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
            published = await self._parts.publisher.publish(pod, await self._incarnation(RELABEL_SECONDS))
            return await self._adopt_identity(pod, published)

    async def audit(self, request: AuditEndpoint) -> Pod:
        """Begin or end the audit of a pod; its flows are decided anew with their next packet.

        Raises:
            UnknownEndpoint: There is none.
        """
        pod = self._parts.endpoints.find(request.endpoint)
        async with self._turns.of(pod.namespace, pod.name):
            pod = replace(self._parts.endpoints.find(request.endpoint), audit=request.audit)
            self.keep(pod)
            if pod.identity and not pod.disconnecting:
                self.enter(pod)
                for address in pod.numbers:
                    self._parts.renew_flows(address)
            return pod

    async def republish(self, endpoint: EndpointId) -> bool:
        """Write a pod's row again, for the node's present incarnation.

        Returns:
            Whether that is done with, also since the pod has gone.
        """
        pod = self._parts.endpoints.get(endpoint)
        if pod is None:
            return True
        async with self._turns.of(pod.namespace, pod.name):
            pod = self._parts.endpoints.get(endpoint)
            if pod is None or pod.disconnecting:
                return True
            try:
                published = await self._parts.publisher.publish(pod, await self._parts.registrar.incarnation())
            except (Refused, Unavailable) as error:
                log.warning("endpoint %s is not published: %s", pod.full_name, error)
                return False
            await self._adopt_identity(pod, published)
            return True

    async def drop_lost(self, endpoint: EndpointId) -> None:
        """Disconnect a pod that has an address of a block that is another node's now.

        Others reach that node's pod under the address, so ours talks to nobody any more.
        """
        pod = self._parts.endpoints.get(endpoint)
        if pod is None or pod.disconnecting or not self._parts.pool.is_lost(pod.addresses):
            return
        async with self._turns.of(pod.namespace, pod.name):
            addresses = ", ".join(filter(None, pod.addresses))
            log.error("endpoint %s is disconnected: %s is another node's now", pod.full_name, addresses)
            await self.disconnect(pod)

    def keep(self, pod: Pod) -> None:
        """Know a pod, in memory and on disk."""
        self._parts.records.save(pod)
        self._parts.endpoints.put(pod)

    async def link(self, pod: Pod) -> Pod:
        """Make a pod's link."""
        return replace(pod, ifindex=await self._parts.links.connect(link_of(pod, self._parts.mtu_bytes)))

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

    async def _repeat(self, pod: Pod, request: CreateEndpoint) -> Pod:
        """Answer the same request once more."""
        check_repeated(pod, request)
        if not self._parts.policy.in_force(pod.identity):
            async with asyncio.timeout(request.timeout_seconds):
                await self._parts.policy.wait_realised(pod.identity, Revision(0))
        return pod

    async def _is_replaced(self, known: Pod, request: CreateEndpoint, inode: int) -> bool:
        """Tell whether a pod's namespace or link is gone, so that who asks is its successor; then
        nothing is left of it.

        Raises:
            Unavailable: Its row can't be withdrawn yet.
        """
        if known.disconnecting or (known.netns == request.netns and known.netns_inode not in (0, inode)):
            pass
        elif not known.ifindex or await self._has_link(known):
            return False
        log.warning("endpoint %s is replaced: its network namespace or link is gone", known.full_name)
        await self._undo(known)
        if self._parts.endpoints.get(known.id) is not None:
            raise Unavailable("identity", f"the row of the former {known.full_name} is not withdrawn yet")
        return True

    async def _has_link(self, pod: Pod) -> bool:
        return await self._parts.links.ifindex(pod.host_interface) == pod.ifindex

    async def recover(self, endpoint: EndpointId) -> bool:
        """Make a link anew that is gone, or disconnect its pod if the namespace went with it.

        Returns:
            Whether something was wrong with the link.
        """
        pod = self._parts.endpoints.get(endpoint)
        if pod is None:
            return False
        async with self._turns.of(pod.namespace, pod.name):
            pod = self._parts.endpoints.get(endpoint)
            if pod is None or pod.disconnecting or not pod.ifindex or await self._has_link(pod):
                return False
            try:
                if netns_inode(pod.netns) != pod.netns_inode:
                    raise NoNetworkNamespace(pod.netns, "it is another one")
                pod = await self.link(pod)
            except (AgentError, NoNetworkNamespace) as error:
                log.warning("endpoint %s is gone: %s", pod.full_name, error)
                await self._undo(pod)
                return True
            self.keep(pod)
            if pod.identity:
                self.enter(pod)
            return True

    async def _record(self, request: CreateEndpoint, labels: tuple[str, ...], inode: int) -> Pod:
        parts = self._parts
        addresses = await parts.registrar.addresses()
        try:
            endpoint, gateways = parts.endpoints.next_id(), parts.pool.gateways
            pod = new_pod(
                endpoint,
                request,
                labels=labels,
                addresses=addresses,
                gateways=gateways,
                mac=random_mac(),
                netns_inode=inode,
            )
            self.keep(pod)
        except (NoEndpointId, OSError):
            parts.pool.release(addresses)
            raise
        return pod

    async def _incarnation(self, seconds: float) -> Incarnation:
        """Return the node's incarnation.

        Raises:
            Unavailable: The node isn't registered, and wasn't within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._parts.registrar.incarnation()
        except TimeoutError as error:
            raise Unavailable("ipam", f"the node is not registered ({self._parts.registrar.last_error})") from error

    async def _connect(self, pod: Pod, incarnation: Incarnation) -> Pod:
        """Make a pod's link and publish its row, side by side; then have its policy in force."""
        parts = self._parts
        linked, published = await asyncio.gather(
            self.link(pod), parts.publisher.publish(pod, incarnation), return_exceptions=True
        )
        if isinstance(linked, BaseException):
            raise linked
        if isinstance(published, BaseException):
            raise published
        pod = replace(linked, identity=published.endpoint.identity)
        self.keep(pod)
        self.enter(pod)
        await self._wait_realised(pod, published.revision)
        return pod

    async def _wait_realised(self, pod: Pod, revision: Revision) -> None:
        """Wait for the policy of an identity, and, bounded, for the policies that name it."""
        waits = (
            self._parts.policy.wait_realised(pod.identity, revision),
            self._parts.publisher.wait_known(pod, revision, seconds=KNOWN_SECONDS),
        )
        for outcome in await asyncio.gather(*waits, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _adopt_identity(self, pod: Pod, published: Published) -> Pod:
        """Move a pod to the identity of its row, once the policy of that is in force."""
        former, pod = pod.identity, replace(pod, identity=published.endpoint.identity)
        self.keep(pod)
        if pod.identity != former:
            self._parts.policy.ensure(pod.identity)
            await self._wait_realised(pod, published.revision)
            self.enter(pod)
            self._release(former)
        return pod

    async def _undo(self, pod: Pod) -> None:
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
            self._parts.publisher.forget_known(identity)
