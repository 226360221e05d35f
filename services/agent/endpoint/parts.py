"""Parts that the life of an endpoint works with, each as narrow as it is needed."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cilia.contracts.identity_service import Published
from cilia.contracts.ids import EndpointId, Identity, Incarnation, Revision
from services.agent.endpoint.store import Endpoints, Pod
from services.agent.endpoint.veth import PodLink, PodLinks
from services.agent.netlink.worker import Worker
from services.agent.node.pool import Addresses, AddressPool


class Records(Protocol):
    """Records on disk (services.agent.endpoint.store)."""

    def save(self, pod: Pod) -> None: ...

    def remove(self, endpoint: EndpointId) -> None: ...


class Links(Protocol):
    """Pods' links (services.agent.endpoint.veth), without blocking the loop."""

    async def connect(self, link: PodLink) -> int: ...

    async def disconnect(self, host_interface: str) -> None: ...

    async def ifindex(self, interface: str) -> int: ...


class EndpointTable(Protocol):
    """Map of pods by address (services.agent.endpoint.maps)."""

    @property
    def entries(self) -> Mapping[int, object]: ...

    def put_pod(self, pod: Pod, slot: int) -> None: ...

    def remove(self, address: int, /) -> None: ...


class LocalAddresses(Protocol):
    """The ipcache, as far as it knows this node's pods."""

    def set_local(self, addresses: Iterable[int], identity: Identity | None) -> None: ...


class Policy(Protocol):
    """Policy of local identities (services.agent.policy.reconciler)."""

    def ensure(self, identity: Identity) -> int: ...

    def release(self, identity: Identity) -> None: ...

    def in_force(self, identity: Identity) -> bool: ...

    async def wait_realised(self, identity: Identity, revision: Revision) -> None: ...


class Publisher(Protocol):
    """Rows of this node's endpoints (services.agent.endpoint.publication)."""

    async def publish(self, pod: Pod, incarnation: Incarnation) -> Published: ...

    async def wait_known(self, pod: Pod, revision: Revision, *, seconds: float) -> None: ...

    def forget_known(self, identity: Identity) -> None: ...

    def withdraw(self, endpoint: EndpointId, finished: Callable[[], None]) -> asyncio.Event: ...


class Registrar(Protocol):
    """The node's membership and addresses (services.agent.node.registration)."""

    @property
    def last_error(self) -> str: ...

    async def incarnation(self) -> Incarnation: ...

    async def addresses(self) -> Addresses: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """All of them."""

    endpoints: Endpoints
    records: Records
    pool: AddressPool
    links: Links
    table: EndpointTable
    ipcache: LocalAddresses
    policy: Policy
    publisher: Publisher
    registrar: Registrar
    renew_flows: Callable[[int], None]
    """Has the flows of an address decided anew."""
    purge_flows: Callable[[int], None]
    """Forgets the flows of an address."""
    mtu_bytes: int


class WorkerLinks:
    """Pods' links, in the thread that made them."""

    def __init__(self, links: PodLinks, worker: Worker) -> None:
        self._links = links
        self._worker = worker

    async def connect(self, link: PodLink) -> int:
        """Connect a pod and return the index of the host's end."""
        return await self._worker.run(self._links.connect, link)

    async def disconnect(self, host_interface: str) -> None:
        """Remove a pod's link."""
        await self._worker.run(self._links.disconnect, host_interface)

    async def ifindex(self, interface: str) -> int:
        """Return the index of a device of the node, 0 if there is none."""
        return await self._worker.run(self._links.ifindex, interface)
