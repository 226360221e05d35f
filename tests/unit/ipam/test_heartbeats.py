"""Heartbeats over a fake bus and a fake etcd, in simulated time: what is written, and what not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest

from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import Heartbeat, RegisterNode
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Empty
from cilia.contracts.tables import Pool, Staleness
from cilia.errors import Refused, Unavailable
from cilia.kvstore import Reset, replicate
from cilia.owner.informer import fold
from services.ipam.cache import IpamCache
from services.ipam.grants import Grants
from services.ipam.heartbeats import Heartbeats, office
from services.ipam.removal import Removal
from tests.fakes.bus import Broker, FakeBus
from tests.fakes.clock import end, in_fake_time, now, settle
from tests.fakes.etcd import FakeEtcd

KEYS = Keys("test")
STALE, DEAD, HOUR = 30.0, 7200.0, 3600.0
N1, N2, N3 = (NodeName(f"n{number}") for number in (1, 2, 3))


class Cluster:
    """An etcd, a bus, and agents that send heartbeats unless they are told not to."""

    def __init__(self) -> None:
        self.broker, self.etcd = Broker(), FakeEtcd(now)
        self.etcd.set(KEYS.pool("default"), msgspec.json.encode(Pool("10.244.0.0/16", 26)))
        self.lead("a")
        self.silent: set[NodeName] = set()
        self.refused: list[NodeName] = []
        self.members: dict[NodeName, Incarnation] = {}

    def lead(self, replica: str) -> None:
        self.etcd.set(KEYS.leader("ipam"), replica.encode())

    async def register(self, *names: NodeName) -> None:
        cache = IpamCache(KEYS)
        fold(cache, Reset(self.etcd.revision, tuple(self.etcd.records.values())))
        for at, name in enumerate(names):
            entered = await Grants(self.etcd, KEYS, cache, Random(1)).register(RegisterNode(name, f"192.0.2.{at}"))
            self.members[name] = entered.incarnation
            self.etcd.set(KEYS.endpoint(name, 1), b"{}")  # type: ignore[arg-type]

    async def beat(self, name: NodeName, seconds: float = 2.0) -> None:
        bus, message = self.broker.bus(), Heartbeat(name, self.members[name])
        await bus.request(bus.subjects.request("ipam", "heartbeat"), message, Empty, timeout=seconds)

    async def agent(self, name: NodeName) -> None:
        while True:
            await asyncio.sleep(STALE / 3)
            if name in self.silent:
                continue
            try:
                await self.beat(name)
            except Unavailable:
                pass
            except Refused:
                self.refused.append(name)

    def truth(self) -> dict[str, bytes]:
        """Return all that verdicts and routes follow from."""
        prefixes = (KEYS.nodes, KEYS.blocks, KEYS.endpoints)
        return {key: self.etcd.value(key) or b"" for prefix in prefixes for key in self.etcd.keys(prefix)}

    def stale(self) -> set[str]:
        return {key.removeprefix(KEYS.stale) for key in self.etcd.keys(KEYS.stale)}


class Leader:
    """The elected replica."""

    def __init__(self, cluster: Cluster, replica: str = "a") -> None:
        self.bus: FakeBus = cluster.broker.bus()
        self.cache = IpamCache(KEYS)
        self._etcd = cluster.etcd
        self.heartbeats = Heartbeats(
            bus=self.bus,
            etcd=cluster.etcd,
            keys=KEYS,
            cache=self.cache,
            removal=Removal(cluster.etcd, KEYS, self.cache, Random(1)),
            office=office(KEYS, replica),
            stale_seconds=STALE,
            dead_seconds=DEAD,
            clock=now,
            wall_ns=lambda: int(now() * 1e9),
        )

    async def follow(self) -> None:
        async for step in replicate(self._etcd, KEYS.root, self.cache.prefixes):
            fold(self.cache, step)


@asynccontextmanager
async def running(cluster: Cluster, *loops: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    agents = map(cluster.agent, cluster.members)
    tasks = [asyncio.create_task(each) for each in (*(loop() for loop in loops), *agents)]
    await settle()
    try:
        yield
    finally:
        await end(*tasks)


@asynccontextmanager
async def led(cluster: Cluster, names: Iterable[NodeName] = (N1, N2, N3)) -> AsyncIterator[Leader]:
    await cluster.register(*names)
    leader = Leader(cluster)
    async with running(cluster, leader.follow, leader.heartbeats.run):
        yield leader


@in_fake_time
async def test_heartbeats_of_an_hour_write_nothing() -> None:
    cluster = Cluster()
    async with led(cluster):
        revision, transactions = cluster.etcd.revision, cluster.etcd.transactions
        await asyncio.sleep(HOUR)
        assert (cluster.etcd.revision, cluster.etcd.transactions) == (revision, transactions)


@in_fake_time
async def test_an_agent_that_is_away_for_an_hour_is_stale_and_its_return_writes_only_that() -> None:
    cluster = Cluster()
    async with led(cluster) as leader:
        before = cluster.truth()
        cluster.silent = {N1}
        await asyncio.sleep(HOUR)
        assert (cluster.truth(), cluster.stale()) == (before, {N1})
        mark = msgspec.json.decode(cluster.etcd.value(KEYS.stale_node(N1)) or b"", type=Staleness)
        assert (0 <= mark.since_ns < STALE * 1e9, mark.dead_after_seconds) == (True, DEAD)
        revision = cluster.etcd.revision
        cluster.silent = set()
        await asyncio.sleep(STALE)
        assert (cluster.truth(), cluster.stale(), cluster.refused) == (before, set(), [])
        assert cluster.etcd.revision == revision + 1
        counters = leader.heartbeats.counters
        assert (counters.fell_silent, counters.returned, counters.declared_dead) == (1, 1, 0)


@in_fake_time
async def test_a_node_is_dead_after_its_time_and_its_agent_hears_of_it() -> None:
    cluster = Cluster()
    async with led(cluster) as leader:
        others = {key: value for key, value in cluster.truth().items() if "n1" not in key and b'"n1"' not in value}
        cluster.silent = {N1}
        await asyncio.sleep(DEAD + 60)
        assert (cluster.truth(), cluster.stale()) == (others, set())
        assert leader.heartbeats.counters.declared_dead == 1
        cluster.silent = set()
        await asyncio.sleep(STALE)
        assert cluster.refused
        assert cluster.truth() == others


@pytest.mark.parametrize("absent", ["bus", "etcd", "ipam", "ipam and etcd", "all"])
def test_no_absence_of_a_service_for_hours_removes_anything(absent: str) -> None:
    @in_fake_time
    async def run() -> None:
        cluster = Cluster()
        async with led(cluster) as leader:
            await asyncio.sleep(HOUR)
            before = cluster.truth()
            leads = "ipam" not in absent and absent != "all"
        if absent in ("bus", "all"):
            cluster.broker.loses = lambda _: True
            leader.bus.disconnect()
        cluster.etcd.away = "etcd" in absent or absent == "all"
        async with running(
            cluster, *((leader.follow, leader.heartbeats.run) if leads and not cluster.etcd.away else ())
        ):
            await asyncio.sleep(3 * DEAD)
        assert cluster.truth() == before
        cluster.etcd.away, cluster.broker.loses = False, lambda _: False
        leader.bus.reconnect()
        async with running(cluster, leader.follow, leader.heartbeats.run):
            await asyncio.sleep(HOUR)
            assert (cluster.truth(), cluster.stale(), cluster.refused) == (before, set(), [])

    run()


@in_fake_time
async def test_etcd_that_is_away_while_the_leader_hears_loses_nothing_and_is_told_later() -> None:
    cluster = Cluster()
    async with led(cluster):
        before = cluster.truth()
        cluster.silent, cluster.etcd.away = {N1}, True
        await asyncio.sleep(HOUR)
        cluster.etcd.away = False
        assert (cluster.truth(), cluster.stale()) == (before, set())
        await asyncio.sleep(10)
        assert (cluster.truth(), cluster.stale()) == (before, {N1})


@in_fake_time
async def test_one_that_leads_no_more_and_does_not_know_it_marks_and_removes_nothing() -> None:
    cluster = Cluster()
    async with led(cluster):
        cluster.lead("b")
        before, cluster.silent = cluster.truth(), {N1}
        await asyncio.sleep(2 * DEAD)
        assert (cluster.truth(), cluster.stale()) == (before, set())


@in_fake_time
async def test_a_registration_that_the_cache_has_not_heard_of_is_looked_up() -> None:
    cluster = Cluster()
    await cluster.register(N1)
    leader = Leader(cluster)
    async with running(cluster, leader.heartbeats.run):
        await cluster.beat(N1)
        cluster.members[N1] = Incarnation(1)
        with pytest.raises(Refused, match="register again"):
            await cluster.beat(N1)


@in_fake_time
async def test_an_agent_of_a_former_incarnation_keeps_no_node_alive() -> None:
    cluster = Cluster()
    async with led(cluster, (N1,)) as leader:
        former = cluster.members[N1]
        await cluster.beat(N1)
        await Removal(cluster.etcd, KEYS, leader.cache, Random(1)).remove(N1)
        await cluster.register(N1)
        await cluster.beat(N1)
        cluster.members[N1] = former
        with pytest.raises(Refused, match="register again"):
            await cluster.beat(N1)
