"""The ipcache follows nodes, pods and prefixes in the order that verdicts need."""

import asyncio
from collections.abc import Mapping

import pytest

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.tables import Endpoint, EndpointKey, Node, PrefixRow
from cilia.reconcile import reconciler as loop
from services.agent.address import Prefix, ipv4_number, number, prefix
from services.agent.ipcache import reconciler as module
from services.agent.ipcache.desired import WORLD_LOCATIONS, Ipcache, Location, owner_number
from services.agent.ipcache.reconciler import IpcacheReconciler, IpcacheSources, PolicyInForce
from tests.unit.agent.ipcache.table import FakeIpcacheMap
from tests.unit.agent.loops import running, until
from tests.unit.agent.tables import MirroredTable, turns

ME, A = NodeName("me"), NodeName("a")
POD = Prefix(number("10.1.0.9"))
REMOTE_POD = Prefix(number("10.2.0.9"))
OFFICE = "203.0.113.0/24"
WEB, DB, OFFICE_ID = Identity(300), Identity(301), Identity(16777217)
NODE_A = Node(A, "192.0.2.2", pod_cidrs=("10.2.0.0/24",))
ROW = Endpoint(A, EndpointId(1), DB, "10.2.0.9")
KEY = EndpointKey(A, EndpointId(1))


class Agent:
    """The reconciler over tables of a test, and policy that is in force when the test says so."""

    def __init__(self, table: FakeIpcacheMap | None = None) -> None:
        self.nodes: MirroredTable[NodeName, Node] = MirroredTable()
        self.endpoints: MirroredTable[EndpointKey, Endpoint] = MirroredTable()
        self.prefixes: MirroredTable[str, PrefixRow] = MirroredTable()
        self.table = table or FakeIpcacheMap(WORLD_LOCATIONS)
        self.ipcache = Ipcache(ME, "192.0.2.1")
        self.now = 0.0
        self.reached = asyncio.Event()
        self.reached.set()
        self.waited: list[Revision] = []
        self.inherited: dict[Identity, Identity] = {}
        self.reconciler = IpcacheReconciler(
            self.ipcache,
            self.table,
            IpcacheSources(self.nodes.subscriber, self.endpoints.subscriber, self.prefixes.subscriber),
            PolicyInForce(self.wait_reached, self.inherit),
            clock=lambda: self.now,
        )

    async def wait_reached(self, revision: Revision) -> None:
        self.waited.append(revision)
        await self.reached.wait()

    def inherit(self, heirs: Mapping[Identity, Identity]) -> None:
        self.inherited.update(heirs)

    def identity(self, where: Prefix) -> int | None:
        found = self.table.kernel.get(where)
        return found and found.identity


@pytest.fixture(autouse=True)
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LINGER_SECONDS", 0.0)


def test_a_local_pod_is_in_the_kernel_when_the_call_returns() -> None:
    agent = Agent()
    agent.reconciler.set_local([POD.address], WEB)
    assert agent.identity(POD) == WEB
    agent.reconciler.set_local([POD.address], None)
    assert agent.identity(POD) is None


def test_a_local_pod_does_not_wait_behind_others(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent()
    agent.reconciler._batch = 2
    agent.nodes.commit({A: NODE_A})
    agent.ipcache.feed_nodes({A: NODE_A}, ())
    for last in range(50):
        key = EndpointKey(A, EndpointId(last))
        agent.ipcache.feed_endpoints({key: Endpoint(A, EndpointId(last), DB, f"10.2.0.{last}")}, ())
    agent.reconciler.set_local([POD.address], WEB)
    assert agent.identity(POD) == WEB
    assert agent.table.written == [{POD: Location(WEB)}]


async def test_remote_pods_are_written_once_their_node_is_known() -> None:
    agent = Agent()
    async with running(agent.reconciler.run, agent.reconciler.watch_endpoints):
        agent.endpoints.commit({KEY: ROW})
        await turns()
        assert agent.identity(REMOTE_POD) is None
        agent.reconciler.feed_nodes({A: NODE_A}, ())
        await until(lambda: agent.identity(REMOTE_POD) == DB)
    assert agent.table.kernel[REMOTE_POD] == Location(DB, ipv4_number("192.0.2.2"), owner=owner_number(KEY))


async def test_entries_of_a_former_agent_are_not_written_again_and_stay_until_all_tables_are_complete() -> None:
    stale = Prefix(number("10.9.9.9"))
    held = {**WORLD_LOCATIONS, POD: Location(WEB), stale: Location(DB), Prefix(number("192.0.2.1")): Location(1)}
    agent = Agent(FakeIpcacheMap(held))
    reconciler = agent.reconciler
    async with running(reconciler.run, reconciler.prune, reconciler.watch_endpoints, reconciler.watch_prefixes):
        reconciler.set_local([POD.address], WEB)
        agent.nodes.commit()
        agent.endpoints.commit()
        await turns()
        assert agent.table.written == []
        agent.prefixes.commit(sequence=7)
        await until(lambda: stale not in agent.table.kernel)
    assert agent.table.written == [{stale: None}]
    assert Revision(7) in agent.waited


async def test_nothing_is_pruned_while_policy_lags_behind_the_prefixes() -> None:
    stale = Prefix(number("10.9.9.9"))
    agent = Agent(FakeIpcacheMap({stale: Location(DB)}))
    agent.reached.clear()
    for table in (agent.nodes, agent.endpoints, agent.prefixes):
        table.commit()
    async with running(agent.reconciler.run, agent.reconciler.prune):
        await turns()
        assert stale in agent.table.kernel
        agent.reached.set()
        await until(lambda: stale not in agent.table.kernel)


async def test_a_prefix_is_known_once_policy_knows_its_identity_and_goes_at_once() -> None:
    agent = Agent()
    async with running(agent.reconciler.run, agent.reconciler.watch_prefixes):
        agent.reached.clear()
        agent.prefixes.commit({OFFICE: PrefixRow(OFFICE_ID)}, sequence=5)
        await turns()
        assert (agent.waited, agent.identity(prefix(OFFICE))) == ([Revision(5)], None)
        agent.reached.set()
        await until(lambda: agent.identity(prefix(OFFICE)) == OFFICE_ID)
        agent.reached.clear()
        agent.prefixes.commit({}, [OFFICE], sequence=6)
        await until(lambda: agent.identity(prefix(OFFICE)) is None)


async def test_a_wait_for_prefixes_ends_when_the_kernel_has_them() -> None:
    agent = Agent()
    waiting = asyncio.create_task(agent.reconciler.wait_prefixes([OFFICE]))
    async with running(agent.reconciler.run, agent.reconciler.watch_prefixes):
        await turns()
        assert not waiting.done()
        agent.prefixes.commit({OFFICE: PrefixRow(OFFICE_ID)})
        async with asyncio.timeout(30):
            await waiting
    assert agent.identity(prefix(OFFICE)) == OFFICE_ID


async def test_a_wait_for_prefixes_lasts_while_the_map_is_full() -> None:
    agent = Agent(FakeIpcacheMap({**WORLD_LOCATIONS, Prefix(number("192.0.2.1")): Location(1)}, capacity=3))
    waiting = asyncio.create_task(agent.reconciler.wait_prefixes([OFFICE]))
    async with running(agent.reconciler.run, agent.reconciler.watch_prefixes):
        agent.prefixes.commit({OFFICE: PrefixRow(OFFICE_ID)})
        await until(lambda: bool(agent.reconciler.last_error))
        assert not waiting.done()
        assert agent.reconciler.last_error == "cilia_ipcache: full at 3"
        agent.table.capacity = 4
        agent.now = 10.0
        agent.reconciler.wake()
        async with asyncio.timeout(30):
            await waiting
    assert agent.reconciler.last_error == ""


async def test_prefixes_that_came_while_no_agent_ran_inherit_the_verdicts_of_their_addresses() -> None:
    wide, narrow = "203.0.112.0/23", OFFICE
    held = {**WORLD_LOCATIONS, prefix(wide): Location(OFFICE_ID)}
    agent = Agent(FakeIpcacheMap(held))
    agent.prefixes.commit({wide: PrefixRow(OFFICE_ID), narrow: PrefixRow(Identity(OFFICE_ID + 1))})
    await agent.reconciler.write_new_prefixes()
    assert agent.inherited == {OFFICE_ID + 1: OFFICE_ID}
    assert agent.identity(prefix(narrow)) == OFFICE_ID + 1


async def test_an_address_of_a_labelled_node_inherits_from_remote_nodes() -> None:
    labelled = Identity(0x02000001)
    agent = Agent(FakeIpcacheMap(WORLD_LOCATIONS))
    agent.prefixes.commit({"192.0.2.2/32": PrefixRow(labelled)})
    await agent.reconciler.write_new_prefixes()
    assert agent.inherited == {labelled: Identity(Reserved.REMOTE_NODE)}


async def test_after_a_first_start_nothing_is_inherited() -> None:
    agent = Agent(FakeIpcacheMap())
    agent.prefixes.commit({OFFICE: PrefixRow(OFFICE_ID)})
    await agent.reconciler.write_new_prefixes()
    assert agent.inherited == {}


async def test_a_table_of_prefixes_that_does_not_come_delays_policy_only_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PREFIXES_SECONDS", 0.01)
    agent = Agent(FakeIpcacheMap(WORLD_LOCATIONS))
    await agent.reconciler.write_new_prefixes()
    assert agent.inherited == {}
    assert "the table of prefixes is not complete after 0.01 s" in caplog.text


async def test_gateways_of_pods_are_addresses_of_the_host() -> None:
    agent = Agent()
    async with running(agent.reconciler.run):
        agent.reconciler.set_hosts([number("10.1.0.1")])
        await until(lambda: agent.identity(Prefix(number("10.1.0.1"))) == Reserved.HOST)
