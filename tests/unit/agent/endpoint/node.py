"""A node in memory: parts of endpoints' lives that fail to order and keep a journal."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from cilia.contracts.agent import CreateEndpoint
from cilia.contracts.identity_service import Published
from cilia.contracts.ids import EndpointId, Identity, Incarnation, NodeName, Revision
from cilia.contracts.tables import Endpoint
from cilia.notify import Broadcast
from services.agent.endpoint.lifecycle import EndpointLifecycle
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.publication import row_of
from services.agent.endpoint.republication import Republication
from services.agent.endpoint.restore import restore
from services.agent.endpoint.store import Endpoints, Pod
from services.agent.endpoint.veth import PodLink
from services.agent.node.pool import Addresses, AddressPool
from tests.unit.agent.node.test_pool import granted

NETNS = "/proc/self/ns/net"
"""A network namespace that is always there."""
NODE = NodeName("node1")
BLOCK = "10.1.0.0/28"
WEB, DB = Identity(300), Identity(301)


class FakeKernel:
    """Links, cilia_endpoints, the ipcache and policy of a node.

    Attributes:
        fail: Step (``link``, ``table``, ``policy``, ``publish``) -> the error it raises.
        slow: Step -> seconds that it takes.
        journal: What happened, in order.
    """

    def __init__(self) -> None:
        self.fail: dict[str, BaseException] = {}
        self.slow: dict[str, float] = {}
        self.journal: list[str] = []
        self.links: dict[str, int] = {}
        self.table: dict[int, tuple[Identity, int, bool]] = {}
        self.ipcache: dict[int, Identity] = {}
        self.policies: dict[Identity, bool] = {}
        """Identity that is wanted here -> its policy is in force."""
        self.realises = True
        """Policy comes into force when it is waited for."""

    async def do(self, step: str, detail: object = "") -> None:
        self.journal.append(f"{step} {detail}".strip())
        if step in self.slow:
            await asyncio.sleep(self.slow[step])
        if step in self.fail:
            raise self.fail[step]

    # links

    async def connect(self, link: PodLink) -> int:
        await self.do("link", link.host_interface)
        self.links[link.host_interface] = 100 + len(self.journal)
        return self.links[link.host_interface]

    async def disconnect(self, host_interface: str) -> None:
        await self.do("unlink", host_interface)
        self.links.pop(host_interface, None)

    async def ifindex(self, interface: str) -> int:
        return self.links.get(interface, 0)

    # cilia_endpoints and the ipcache

    @property
    def entries(self) -> Mapping[int, object]:
        return self.table

    def put_pod(self, pod: Pod, slot: int) -> None:
        if "table" in self.fail:
            raise self.fail["table"]
        self.journal.append(f"enter {pod.name}")
        for address in pod.numbers:
            self.table[address] = (pod.identity, slot, pod.audit)

    def remove(self, address: int, /) -> None:
        self.journal.append("leave")
        self.table.pop(address, None)

    def set_local(self, addresses: Iterable[int], identity: Identity | None) -> None:
        for address in addresses:
            if identity is None:
                self.ipcache.pop(address, None)
            else:
                self.ipcache[address] = identity

    # policy

    def ensure(self, identity: Identity) -> int:
        self.policies.setdefault(identity, False)
        return int(identity) - 200

    def release(self, identity: Identity) -> None:
        self.policies.pop(identity, None)

    def in_force(self, identity: Identity) -> bool:
        return self.policies.get(identity, False)

    async def wait_realised(self, identity: Identity, revision: Revision) -> None:
        await self.do("policy", f"{identity}@{revision}")
        if not self.realises:
            await asyncio.Event().wait()
        self.policies[identity] = True


class FakeServices:
    """The identity and ipam services as endpoints' lives know them."""

    def __init__(self, kernel: FakeKernel, pool: AddressPool) -> None:
        self._kernel = kernel
        self._pool = pool
        self.rows: dict[EndpointId, Endpoint] = {}
        self.unaware: dict[Identity, tuple[NodeName, ...]] = {}
        self.identities: dict[tuple[str, ...], Identity] = {}
        self.current = Incarnation(7)
        self.mirror_revision = 1000
        self.mirrored = Broadcast()
        self.registered = asyncio.Event()
        self.registered.set()
        self.last_error = "ipam doesn't answer"
        self.withdrawn: list[tuple[EndpointId, Callable[[], None], asyncio.Event]] = []
        self.withdraws = True

    async def incarnation(self) -> Incarnation:
        await self.registered.wait()
        return self.current

    async def addresses(self) -> Addresses:
        return self._pool.allocate()

    async def wait_known(self, pod: Pod, revision: Revision, *, seconds: float) -> None:
        await self._kernel.do("known", f"{pod.identity}@{revision}")

    def forget_known(self, identity: Identity) -> None:
        self.unaware.pop(identity, None)

    async def publish(self, pod: Pod, incarnation: Incarnation) -> Published:
        await self._kernel.do("publish", f"{pod.name} for {incarnation}")
        identity = self.identities.setdefault(pod.labels, Identity(300 + len(self.identities)))
        row = msgspec.structs.replace(row_of(NODE, pod), identity=identity)
        self.rows[pod.id] = row
        return Published(row, Revision(10 + len(self.rows)))

    async def at_least(self, revision: Revision) -> Mapping[EndpointId, Endpoint]:
        """Return the rows as the node's mirror has them, once it is that far."""
        await self.mirrored.wait_until(lambda: self.mirror_revision >= revision)
        return dict(self.rows)

    def withdraw(self, endpoint: EndpointId, finished: Callable[[], None]) -> asyncio.Event:
        self._kernel.journal.append(f"withdraw {endpoint}")
        done = asyncio.Event()
        self.withdrawn.append((endpoint, finished, done))
        if self.withdraws:
            self.answer_withdrawals()
        return done

    def answer_withdrawals(self) -> None:
        for endpoint, finished, done in self.withdrawn:
            self.rows.pop(endpoint, None)
            finished()
            done.set()
        self.withdrawn.clear()


class MemoryRecords:
    """Records that outlive an agent, and a disk that may be full."""

    def __init__(self) -> None:
        self.pods: dict[EndpointId, Pod] = {}
        self.error: OSError | None = None

    def save(self, pod: Pod) -> None:
        if self.error is not None:
            raise self.error
        self.pods[pod.id] = pod

    def remove(self, endpoint: EndpointId) -> None:
        self.pods.pop(endpoint, None)


class Node:
    """A node whose agent may be started again over the same kernel and records."""

    def __init__(self) -> None:
        self.kernel, self.records = FakeKernel(), MemoryRecords()
        self.start()

    def start(self, *blocks: str) -> None:
        """Start an agent over what a former one left."""
        self.pool = granted(*(blocks or (BLOCK,)), versions=[4])
        self.services = FakeServices(self.kernel, self.pool)
        self.endpoints = Endpoints(self.records.pods.values())
        self.renewed: list[int] = []
        self.purged: list[int] = []
        self.parts = Parts(
            endpoints=self.endpoints,
            records=self.records,
            pool=self.pool,
            links=self.kernel,
            table=self.kernel,
            ipcache=self.kernel,
            policy=self.kernel,
            publisher=self.services,
            registrar=self.services,
            renew_flows=self.renewed.append,
            purge_flows=self.purged.append,
            mtu_bytes=1450,
        )
        self.lifecycle = EndpointLifecycle(self.parts)
        self.republication = Republication(self.parts, self.lifecycle, self.services, NODE)
        self.unaware = self.services.unaware.get

    async def restore(self) -> None:
        await restore(self.parts, self.lifecycle)

    async def create(self, name: str = "web", **fields: Any) -> Pod:
        return await self.lifecycle.create(request(name, **fields))

    def is_clean(self) -> bool:
        """Tell whether nothing is left of any pod, in the kernel, on disk and in the cluster."""
        kernel = self.kernel.links or self.kernel.table or self.kernel.ipcache or self.kernel.policies
        return not (kernel or self.records.pods or len(self.endpoints) or self.services.rows or self.pool.used)


def request(name: str = "web", **fields: Any) -> CreateEndpoint:
    given = {"namespace": "default", "name": name, "netns": NETNS, "labels": {"app": name}, **fields}
    return CreateEndpoint(**given)
