"""cilia_non_masquerade follows settings and nodes; a full map, and what a former agent left."""

from collections.abc import Mapping

import pytest

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Node
from cilia.reconcile import reconciler as loop
from cilia.reconcile.plan import WriteResult
from services.agent.address import Prefix, prefix
from services.agent.nat.desired import NonMasqueradeCidrs
from services.agent.nat.reconciler import NonMasqueradeReconciler
from tests.unit.agent.loops import running, until
from tests.unit.agent.tables import MirroredTable, turns

A = NodeName("a")
OFFICE, BLOCK, STALE = prefix("192.0.2.0/24"), prefix("10.1.1.0/26"), prefix("198.51.100.0/24")
ROW = {A: Node(A, "192.0.2.2", pod_cidrs=("10.1.1.0/26",))}


class KernelPrefixes:
    def __init__(self, *held: Prefix, capacity: int = 100) -> None:
        self.held = set(held)
        self.capacity = capacity
        self.written: list[dict[Prefix, int | None]] = []

    def read(self) -> dict[Prefix, int]:
        return dict.fromkeys(self.held, 1)

    def write(self, changes: Mapping[Prefix, int | None]) -> WriteResult[Prefix]:
        self.written.append(dict(changes))
        self.held -= {each for each, claims in changes.items() if claims is None}
        left = []
        for each, claims in changes.items():
            if claims is not None and len(self.held | {each}) <= self.capacity:
                self.held.add(each)
            elif claims is not None:
                left.append(each)
        return WriteResult(full="cilia_non_masquerade: full" if left else "", left=left)


class Agent:
    def __init__(self, kernel: KernelPrefixes) -> None:
        self.kernel = kernel
        self.nodes: MirroredTable[NodeName, Node] = MirroredTable()
        cidrs = NonMasqueradeCidrs(["192.0.2.0/24"])
        self.reconciler = NonMasqueradeReconciler(cidrs, kernel, self.nodes.wait_complete)

    def feed(self, rows: Mapping[NodeName, Node], *removes: NodeName) -> None:
        self.nodes.commit(rows, removes)
        self.reconciler.feed(rows, removes)


@pytest.fixture(autouse=True)
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LINGER_SECONDS", 0.0)


async def test_additions_are_written_at_once_and_removals_once_the_nodes_are_known() -> None:
    agent = Agent(KernelPrefixes(STALE))
    async with running(agent.reconciler.run, agent.reconciler.prune):
        await until(lambda: agent.kernel.held == {STALE, OFFICE})
        await turns()
        assert agent.kernel.held == {STALE, OFFICE}
        agent.feed(ROW)
        await until(lambda: agent.kernel.held == {OFFICE, BLOCK})


async def test_prefixes_that_are_there_are_not_written_again_however_many_claim_them() -> None:
    agent = Agent(KernelPrefixes(OFFICE, BLOCK))
    async with running(agent.reconciler.run, agent.reconciler.prune):
        agent.feed(ROW | {NodeName("b"): Node(NodeName("b"), "192.0.2.3", pod_cidrs=("10.1.1.0/26",))})
        await turns()
    assert agent.kernel.written == []


async def test_a_full_map_is_an_error_until_something_goes() -> None:
    agent = Agent(KernelPrefixes(STALE, capacity=2))
    async with running(agent.reconciler.run):
        agent.reconciler.feed(ROW, ())
        await until(lambda: bool(agent.reconciler.last_error))
        assert agent.reconciler.last_error == "cilia_non_masquerade: full"
        assert STALE in agent.kernel.held
        assert (agent.reconciler.desired, agent.reconciler.pending, agent.reconciler.failures) == (2, 1, 1)
    agent.nodes.commit(ROW)
    async with running(agent.reconciler.run, agent.reconciler.prune):
        await until(lambda: agent.kernel.held == {OFFICE, BLOCK})
    assert agent.reconciler.last_error == ""


async def test_a_block_goes_with_its_node() -> None:
    agent = Agent(KernelPrefixes())
    async with running(agent.reconciler.run, agent.reconciler.prune):
        agent.feed(ROW)
        await until(lambda: agent.kernel.held == {OFFICE, BLOCK})
        agent.feed({}, A)
        await until(lambda: agent.kernel.held == {OFFICE})
