"""Connecting pods: from a request to a pod that talks, under policy from its first packet on, and
back.

::

    create   record -+-> link, programs in place ---+-> slot, cilia_endpoints, ipcache -> policy in force -> answer
                     +-> row published, identity ---+
    delete   cilia_endpoints, ipcache -> link, flows -> row withdrawn -> address, record

The record on disk brackets everything: what has one may exist in the kernel, what has none doesn't.
A pod whose slot isn't realised has all of its packets dropped. Calls for one pod follow each other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from msgspec.structs import replace

from cilia.contracts.agent import AuditEndpoint, CreateEndpoint, EndpointReference, RelabelEndpoint
from cilia.contracts.identity_service import Published
from cilia.contracts.ids import EndpointId, Identity, LeaseId, Revision
from cilia.contracts.labels import parse_labels, workload
from cilia.datapath.errors import DatapathError
from cilia.errors import Refused, Unavailable
from cilia.netns import NoNetworkNamespace, open_netns
from services.agent.api.validation import check_endpoint
from services.agent.endpoint.maps import EndpointMap
from services.agent.endpoint.pool import Addresses, AddressPool
from services.agent.endpoint.publication import Publication
from services.agent.endpoint.store import Endpoints, Pod, PodFiles
from services.agent.endpoint.veth import PodLink, PodLinks, random_mac
from services.agent.errors import AgentError, NameTaken, TooSlow, UnknownBlock, UnknownEndpoint
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.netlink.worker import Worker
from services.agent.node.registration import Registration
from services.agent.policy.reconciler import PolicyReconciler

log = logging.getLogger(__name__)

WITHDRAWAL_SECONDS: Final = 2.0
"""How long a deletion waits for identity's answer; after that it goes on in the background."""
RELABEL_SECONDS: Final = 5.0
PUBLISH_AT_ONCE: Final = 32
RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LifecycleParts:
    """What connecting a pod works with."""

    endpoints: Endpoints
    files: PodFiles
    pool: AddressPool
    wiring: PodLinks
    worker: Worker
    maps: EndpointMap
    locations: IpcacheReconciler
    realiser: PolicyReconciler
    publication: Publication
    registration: Registration
    purge: Callable[[int], None]
    """Function that forgets the flows of an address."""
    mtu_bytes: int


class EndpointLifecycle:
    """Creates, relabels and deletes endpoints. ``run`` goes to the supervisor."""

    def __init__(self, parts: LifecycleParts) -> None:
        self._parts = parts
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unpublished: set[EndpointId] = set()
        self._wake = asyncio.Event()

    @property
    def unpublished(self) -> int:
        """Pods whose rows have to be written again."""
        return len(self._unpublished)

    # calls

    async def create(self, request: CreateEndpoint) -> Pod:
        """Connect a pod; return once its policy is in force.

        Raises:
            AgentError, NoNetworkNamespace: It can't be; nothing is left of it.
            MapFull: The programs can't know another pod; nothing is left of it.
            BadLabel: A label is none.
            Refused, Unavailable: The identity service said no, or nothing; nothing is left of it.
            TooSlow: ``request.timeout_seconds`` passed; nothing is left of it.
        """
        check_endpoint(request)
        labels = tuple(sorted(map(str, workload(request.namespace, request.labels, request.namespace_labels))))
        parse_labels(labels)
        async with self._turn(request.namespace, request.name):
            deadline = asyncio.get_running_loop().time() + request.timeout_seconds
            known = self._parts.endpoints.named(request.namespace, request.name)
            if known is not None:
                return await self._known(known, request)
            with open_netns(request.netns):
                pass  # it is there; better known before an identity is allocated
            lease = await self._lease(request.timeout_seconds)
            pod = self._record(request, labels, await self._parts.registration.addresses())
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._connect(pod, lease)
            except TimeoutError as error:
                await asyncio.shield(self._undo(pod))
                raise TooSlow(self._step_of(pod), request.timeout_seconds) from error
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
        async with self._turn(pod.namespace, pod.name):
            current = self._parts.endpoints.get(pod.id)
            if current is None:
                return
            await self._undo(current)

    async def relabel(self, request: RelabelEndpoint) -> Pod:
        """Give a pod other labels; return once the policy of its new identity is in force for it.

        Raises:
            UnknownEndpoint, BadLabel, Refused, Unavailable: Nothing has changed.
        """
        pod = self._parts.endpoints.find(request.endpoint)
        labels = tuple(sorted(map(str, workload(pod.namespace, request.labels, request.namespace_labels))))
        parse_labels(labels)
        async with self._turn(pod.namespace, pod.name):
            pod = replace(self._parts.endpoints.find(request.endpoint), labels=labels)
            published = await self._parts.publication.publish(pod, await self._lease(RELABEL_SECONDS))
            return await self._adopt_identity(pod, published)

    async def audit(self, request: AuditEndpoint) -> Pod:
        """Begin or end the audit of a pod; its flows are decided anew with their next packet.

        Raises:
            UnknownEndpoint: There is none.
        """
        pod = self._parts.endpoints.find(request.endpoint)
        async with self._turn(pod.namespace, pod.name):
            pod = replace(self._parts.endpoints.find(request.endpoint), audit=request.audit)
            self._keep(pod)
            if pod.identity and not pod.disconnecting:
                self._enter(pod)
                for address in pod.numbers:
                    self._parts.maps.renew(address)
            return pod

    # restart and re-registration

    async def restore(self) -> None:
        """Bring the kernel and the records of a former agent together; what is in force stays in
        force.
        """
        stale = dict(self._parts.maps.entries)
        for pod in self._parts.endpoints:
            try:
                self._parts.pool.claim(pod.addresses)
            except UnknownBlock as error:
                log.debug("%s", error)
            if pod.disconnecting or not await self._restore_link(pod):
                await self._disconnect(pod)
            elif pod.identity:
                for address in pod.numbers:
                    stale.pop(address, None)
                self._enter(self._parts.endpoints.get(pod.id) or pod)
        for address in stale:
            self._parts.maps.remove(address)

    def publish_all(self) -> None:
        """Have every row written again under the new lease."""
        self._unpublished.update(pod.id for pod in self._parts.endpoints if not pod.disconnecting)
        self._wake.set()

    async def run(self) -> None:
        """Publish what hangs on a new lease, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            some = list(self._unpublished)[:PUBLISH_AT_ONCE]
            done = await asyncio.gather(*(self._publish_again(endpoint) for endpoint in some))
            self._unpublished.difference_update(endpoint for endpoint, ok in zip(some, done, strict=True) if ok)
            if not all(done):
                await asyncio.sleep(RETRY_SECONDS)
            if self._unpublished:
                self._wake.set()

    # steps

    async def _known(self, pod: Pod, request: CreateEndpoint) -> Pod:
        if pod.disconnecting:
            raise Unavailable("identity", f"the row of the former {pod.full_name} is not withdrawn yet")
        if pod.netns != request.netns or pod.interface != request.interface:
            raise NameTaken(pod.full_name, pod.netns)
        if not self._parts.realiser.in_force(pod.identity):
            async with asyncio.timeout(request.timeout_seconds):
                await self._parts.realiser.wait_realised(pod.identity, Revision(0))
        return pod

    async def _lease(self, seconds: float) -> LeaseId:
        """Return the node's lease.

        Raises:
            Unavailable: The node isn't registered, and wasn't within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._parts.registration.lease()
        except TimeoutError as error:
            raise Unavailable("ipam", f"the node is not registered ({self._parts.registration.last_error})") from error

    def _step_of(self, pod: Pod) -> str:
        """Say what a call that gave up was waiting for."""
        known = self._parts.endpoints.get(pod.id) or pod
        return f"the policy of identity {known.identity}" if known.identity else "its link and its identity"

    def _record(self, request: CreateEndpoint, labels: tuple[str, ...], addresses: Addresses) -> Pod:
        parts = self._parts
        endpoint = parts.endpoints.next_id()
        gateways = parts.pool.gateways
        pod = Pod(
            id=endpoint,
            namespace=request.namespace,
            name=request.name,
            netns=request.netns,
            interface=request.interface,
            host_interface=f"lxc{endpoint}",
            mac=random_mac(),
            ipv4=addresses.ipv4,
            ipv6=addresses.ipv6,
            gateway=gateways.ipv4 if addresses.ipv4 else "",
            gateway_ipv6=gateways.ipv6 if addresses.ipv6 else "",
            labels=labels,
            named_ports=request.named_ports,
        )
        self._keep(pod)
        return pod

    async def _connect(self, pod: Pod, lease: LeaseId) -> Pod:
        """Wire and publish side by side: neither needs the other."""
        parts = self._parts
        wired, published = await asyncio.gather(
            parts.worker.run(parts.wiring.connect, self._link(pod)),
            parts.publication.publish(pod, lease),
            return_exceptions=True,
        )
        if isinstance(wired, BaseException):
            raise wired
        if isinstance(published, BaseException):
            raise published
        pod = replace(pod, ifindex=wired, identity=published.endpoint.identity)
        self._keep(pod)
        self._enter(pod)
        await parts.realiser.wait_realised(pod.identity, published.revision)
        return pod

    async def _adopt_identity(self, pod: Pod, published: Published) -> Pod:
        """Move a pod to the identity that its row has; the new policy is in force before the pod is
        under it.
        """
        former, pod = pod.identity, replace(pod, identity=published.endpoint.identity)
        self._keep(pod)
        if pod.identity != former:
            self._parts.realiser.ensure(pod.identity)
            await self._parts.realiser.wait_realised(pod.identity, published.revision)
            self._enter(pod)
            self._release(former)
        return pod

    def _enter(self, pod: Pod) -> None:
        """Make a pod known to the programs, and where it is."""
        slot = self._parts.realiser.ensure(pod.identity)
        self._parts.maps.put_pod(pod, slot)
        self._parts.locations.set_local(pod.numbers, pod.identity)

    async def _disconnect(self, pod: Pod) -> asyncio.Event:
        """Clean the kernel of a pod; the event is set once its row, address and record are gone,
        too.
        """
        parts = self._parts
        pod = replace(parts.endpoints.get(pod.id) or pod, disconnecting=True)
        self._keep(pod)
        for address in pod.numbers:
            parts.maps.remove(address)
        parts.locations.set_local(pod.numbers, None)
        await parts.worker.run(parts.wiring.disconnect, pod.host_interface)
        for address in pod.numbers:
            parts.purge(address)
        self._release(pod.identity)
        return parts.publication.withdraw(pod.id, lambda: self._forget(pod))

    async def _undo(self, pod: Pod) -> None:
        """Disconnect a pod and wait, for a while, until nothing is left of it."""
        done = await self._disconnect(pod)
        try:
            async with asyncio.timeout(WITHDRAWAL_SECONDS):
                await done.wait()
        except TimeoutError:
            log.info("endpoint is disconnected; its row goes later", extra={"endpoint": pod.full_name})

    def _forget(self, pod: Pod) -> None:
        self._parts.endpoints.remove(pod.id)
        self._parts.files.remove(pod.id)
        self._parts.pool.release(pod.addresses)
        self._unpublished.discard(pod.id)

    def _release(self, identity: Identity) -> None:
        if not any(not pod.disconnecting for pod in self._parts.endpoints.with_identity(identity)):
            self._parts.realiser.release(identity)

    async def _restore_link(self, pod: Pod) -> bool:
        """Tell whether a restored pod has its link; make it anew after a reboot, if the pod is
        still there.
        """
        parts = self._parts
        ifindex = await parts.worker.run(parts.wiring.ifindex, pod.host_interface)
        if ifindex and ifindex == pod.ifindex:
            return True
        try:
            ifindex = await parts.worker.run(parts.wiring.connect, self._link(pod))
        except (AgentError, NoNetworkNamespace) as error:
            log.warning("endpoint %s is gone: %s", pod.full_name, error)
            return False
        self._keep(replace(pod, ifindex=ifindex))
        return True

    async def _publish_again(self, endpoint: EndpointId) -> bool:
        pod = self._parts.endpoints.get(endpoint)
        if pod is None or pod.disconnecting:
            return True
        async with self._turn(pod.namespace, pod.name):
            pod = self._parts.endpoints.get(endpoint)
            if pod is None or pod.disconnecting:
                return True
            try:
                published = await self._parts.publication.publish(pod, await self._parts.registration.lease())
            except (Refused, Unavailable) as error:
                log.warning("endpoint %s is not published: %s", pod.full_name, error)
                return False
            await self._adopt_identity(pod, published)
            return True

    def _link(self, pod: Pod) -> PodLink:
        return PodLink(
            netns=pod.netns,
            interface=pod.interface,
            mac=pod.mac,
            gateways=pod.gateways,
            host_interface=pod.host_interface,
            mtu_bytes=self._parts.mtu_bytes,
        )

    def _keep(self, pod: Pod) -> None:
        self._parts.endpoints.put(pod)
        self._parts.files.save(pod)

    @asynccontextmanager
    async def _turn(self, namespace: str, name: str) -> AsyncIterator[None]:
        """Let the calls for one pod follow each other."""
        lock = self._turns.setdefault(f"{namespace}/{name}", asyncio.Lock())
        async with lock:
            yield
