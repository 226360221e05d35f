"""Replicas of the policy service over an etcd and a bus in memory: store, informer and engine."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network

import msgspec

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import POLICIES, RESOLVED, PolicyEntry, SubjectKey
from cilia.notify import Broadcast
from cilia.table.publisher import TablePublisher
from services.policy.changes.capacity import Admission
from services.policy.changes.store import Store
from services.policy.realisation.ledger import RealisationLedger
from services.policy.resolution.events import EndpointEvent, IdentityEvent
from services.policy.resolution.identity_nodes import IdentityNodes
from services.policy.resolution.informer import PolicyInformer
from services.policy.resolution.resolver import EngineResolver
from tests.fakes.bus import Broker
from tests.fakes.clock import settle
from tests.fakes.etcd import FakeEtcd
from tests.unit.policy.service.changes_of import endpoint, identity, new_resolver, outside

KEYS = Keys("test")


@dataclass(frozen=True, slots=True)
class Replica:
    """Store and informer of one replica."""

    etcd: FakeEtcd
    informer: PolicyInformer
    store: Store
    resolver: EngineResolver

    def counts(self) -> tuple[int, int, int]:
        """Return resolutions, trials adopted and trials dropped."""
        counters = self.resolver.counters
        return counters.resolutions, counters.trials_adopted, counters.trials_dropped

    def rows(self) -> dict[SubjectKey, PolicyEntry]:
        return {key: entry for shard in self.resolver.rows.values() for key, entry in shard.items()}


def put_fact(etcd: FakeEtcd, event: IdentityEvent | EndpointEvent) -> int:
    """Write an identity or an endpoint as its owner does; returns the revision."""
    match event:
        case IdentityEvent(number, labels):
            assert labels is not None
            return etcd.set(KEYS.identity(number), "".join(f"{each};" for each in sorted(map(str, labels))).encode())
        case EndpointEvent(key, row):
            return etcd.set(KEYS.endpoint(key.node, key.id), msgspec.json.encode(row))


def small_cluster() -> FakeEtcd:
    """Return an etcd with two applications of one pod each on n1, and a peer on n2."""
    etcd = FakeEtcd()
    for number, label, node in ((300, "k8s:app=web", "n1"), (301, "k8s:app=db", "n1"), (302, "k8s:role=peer", "n2")):
        put_fact(etcd, identity(number, label))
        put_fact(etcd, endpoint(node, number - 299, number))
    return etcd


@asynccontextmanager
async def replica(etcd: FakeEtcd, *, capacity: int = 10_000) -> AsyncIterator[Replica]:
    """Run a replica until the end of the block; prefixes get their identities as from the identity
    service.
    """

    async def capacities(nodes: set[NodeName]) -> dict[NodeName, int]:
        return dict.fromkeys(nodes, capacity)

    resolver, nodes, bus = new_resolver(), IdentityNodes(), Broker().bus()
    informer = PolicyInformer(
        etcd=etcd,
        keys=KEYS,
        epoch=1,
        resolver=resolver,
        nodes=nodes,
        ledger=RealisationLedger(),
        policies=TablePublisher(bus, POLICIES),
        resolved=TablePublisher(bus, RESOLVED, computed=resolver.rows),
        progressed=Broadcast(),
    )

    async def reserve(prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            event = outside(int(ip_network(prefix)[0]) >> 8 & 0xFFFF, prefix)
            if etcd.value(KEYS.identity(event.identity)) is None:
                await informer.reach(Revision(put_fact(etcd, event)))

    store = Store(etcd, KEYS, Admission(resolver, nodes, capacities), reserve, informer.stored)
    running = asyncio.create_task(informer.run())
    try:
        await informer.ready.wait()
        yield Replica(etcd, informer, store, resolver)
        await settle()
        assert not running.done(), running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
