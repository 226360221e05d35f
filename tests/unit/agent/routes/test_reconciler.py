"""Routes follow the nodes through refusals, restarts and links that take routes along."""

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

import pytest

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.reconcile import reconciler as loop
from cilia.reconcile.plan import WriteResult
from services.agent.drift.reporter import Drift
from services.agent.routes.desired import NativeWay, Network, OverlayWay, Route, Routes
from services.agent.routes.reconciler import RouteReconciler
from tests.unit.agent.loops import running, until
from tests.unit.agent.tables import MirroredTable, turns

ME, A, B = NodeName("me"), NodeName("a"), NodeName("b")
BLOCK_A, BLOCK_B, STALE = ip_network("10.1.1.0/26"), ip_network("10.1.2.0/26"), ip_network("10.9.0.0/26")


def row(name: NodeName, ipv4: str, *blocks: Network) -> dict[NodeName, Node]:
    return {name: Node(name, ipv4, pod_cidrs=tuple(map(str, blocks)))}


class KernelRoutes:
    """Routing table that fills in the device, as a kernel does, and refuses gateways by name."""

    def __init__(self, held: Mapping[Network, Route] | None = None) -> None:
        self.held = dict(held or {})
        self.unreachable: set[str] = set()
        self.written: list[dict[Network, Route | None]] = []

    def read(self) -> dict[Network, Route]:
        return dict(self.held)

    def write(self, changes: Mapping[Network, Route | None]) -> WriteResult[Network]:
        self.written.append(dict(changes))
        refused = {}
        for network, route in changes.items():
            if route is None:
                self.held.pop(network, None)
            elif route.gateway in self.unreachable:
                refused[network] = "Network is unreachable"
            else:
                self.held[network] = route._replace(device=route.device or 2)
        return WriteResult(refused)


class Agent:
    def __init__(self, kernel: KernelRoutes | None = None, *, overlay: bool = False) -> None:
        self.kernel = kernel or KernelRoutes()
        self.nodes: MirroredTable[NodeName, Node] = MirroredTable()
        self.before_call: Callable[[], None] = lambda: None
        sources: dict[int, str] = {}
        routes = Routes(ME, OverlayWay(7, sources) if overlay else NativeWay())
        self.reconciler = RouteReconciler(
            routes,
            sources,
            self.kernel,
            self.kernel.read(),
            self._in_thread,
            nodes_complete=self.nodes.wait_complete,
        )

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        result = function(*args)
        self.before_call()
        await asyncio.sleep(0)
        return result

    def feed(self, rows: Mapping[NodeName, Node], *removes: NodeName) -> None:
        self.nodes.commit(rows, removes)
        self.reconciler.feed(rows, removes)


@pytest.fixture(autouse=True)
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LINGER_SECONDS", 0.0)


async def test_routes_follow_the_nodes() -> None:
    agent = Agent()
    async with running(agent.reconciler.run):
        agent.feed(row(A, "192.0.2.2", BLOCK_A) | row(B, "192.0.2.3", BLOCK_B))
        await until(lambda: agent.kernel.held.keys() == {BLOCK_A, BLOCK_B})
        agent.feed(row(B, "192.0.2.4", BLOCK_B), A)
        await until(lambda: agent.kernel.held == {BLOCK_B: Route("192.0.2.4", 2)})


async def test_routes_of_the_overlay_wait_for_the_source_that_registration_brings() -> None:
    agent = Agent(overlay=True)
    async with running(agent.reconciler.run):
        agent.feed(row(A, "192.0.2.2", BLOCK_A))
        await turns()
        assert agent.kernel.held == {}
        agent.reconciler.register({4: "10.1.0.1", 6: ""})
        await until(lambda: agent.kernel.held == {BLOCK_A: Route("169.254.1.1", 7, "10.1.0.1", onlink=True)})


async def test_routes_of_a_former_agent_are_kept_without_a_write_and_stale_ones_go_when_all_is_known() -> None:
    agent = Agent(KernelRoutes({BLOCK_A: Route("192.0.2.2", 2), STALE: Route("192.0.2.9", 2)}))
    async with running(agent.reconciler.run, agent.reconciler.prune):
        agent.feed(row(A, "192.0.2.2", BLOCK_A))
        await turns()
        assert agent.kernel.written == []
        agent.reconciler.register({})
        await until(lambda: STALE not in agent.kernel.held)
    assert agent.kernel.written == [{STALE: None}]


async def test_an_agent_that_is_not_registered_removes_no_route_of_the_overlay() -> None:
    left = {BLOCK_A: Route("169.254.1.1", 7, "10.1.0.1", onlink=True)}
    agent = Agent(KernelRoutes(left), overlay=True)
    async with running(agent.reconciler.run, agent.reconciler.prune):
        agent.feed(row(A, "192.0.2.2", BLOCK_A))
        await turns()
        assert await agent.reconciler.drift.look() == [Drift("routes", ())]
        assert agent.kernel.held == left
        agent.reconciler.register({4: "10.1.0.1"})
        await until(lambda: agent.reconciler.plan.is_complete)
    assert (agent.kernel.held, agent.kernel.written) == (left, [])


async def test_a_refused_route_is_named_and_the_others_are_made() -> None:
    agent = Agent()
    agent.kernel.unreachable.add("192.0.2.2")
    async with running(agent.reconciler.run):
        agent.feed(row(A, "192.0.2.2", BLOCK_A) | row(B, "192.0.2.3", BLOCK_B))
        await until(lambda: bool(agent.reconciler.last_error))
        assert agent.reconciler.last_error == "route to 10.1.1.0/26: Network is unreachable"
        assert agent.kernel.held.keys() == {BLOCK_B}
        assert (agent.reconciler.pending, agent.reconciler.failures, agent.reconciler.desired) == (1, 1, 2)
        agent.feed({}, A)
        await until(lambda: not agent.reconciler.last_error)
    assert agent.reconciler.pending == 0


async def test_a_link_that_went_down_gets_its_routes_back() -> None:
    agent = Agent()
    async with running(agent.reconciler.run, agent.reconciler.prune):
        agent.feed(row(A, "192.0.2.2", BLOCK_A))
        agent.reconciler.register({})
        await until(lambda: agent.reconciler.plan.is_complete and agent.reconciler.plan.status(BLOCK_A) == "done")
        agent.kernel.held = {STALE: Route("192.0.2.9", 2)}
        (drift,) = await agent.reconciler.drift.look()
        await until(lambda: agent.kernel.held == {BLOCK_A: Route("192.0.2.2", 2)})
    assert drift.differences == (
        "the route to 10.1.1.0/26 was missing, not via 192.0.2.2",
        "the route to 10.9.0.0/26 was via 192.0.2.9 dev 2, not missing",
    )


async def test_a_route_written_while_the_table_is_read_is_not_mended() -> None:
    agent = Agent()
    async with running(agent.reconciler.run, agent.reconciler.prune):
        agent.feed(row(A, "192.0.2.2", BLOCK_A))
        agent.reconciler.register({})
        await until(lambda: agent.reconciler.plan.is_complete and agent.reconciler.plan.status(BLOCK_A) == "done")

        def change() -> None:
            agent.before_call = lambda: None
            agent.feed(row(B, "192.0.2.3", BLOCK_B))

        agent.before_call = change
        assert await agent.reconciler.drift.look() == [Drift("routes", ())]
        await until(lambda: agent.kernel.held.keys() == {BLOCK_A, BLOCK_B})


async def test_a_node_that_moves_while_its_route_is_written_ends_where_it_is() -> None:
    agent = Agent()

    def move() -> None:
        agent.before_call = lambda: None
        agent.feed(row(A, "192.0.2.9", BLOCK_A))

    agent.before_call = move
    async with running(agent.reconciler.run):
        agent.feed(row(A, "192.0.2.2", BLOCK_A))
        await until(lambda: agent.kernel.held == {BLOCK_A: Route("192.0.2.9", 2)})
