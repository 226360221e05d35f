"""Flows are charged to the endpoint that has them, which may hold a part of what is free."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cilia.abi import maps
from cilia.abi.enums import DropReason, Hook
from cilia.abi.offsets import FlowAccountOffset
from cilia.datapath.array_memory import ArrayMemory
from cilia.datapath.clock import CoarseClock
from services.agent.config import TimeoutConfig
from services.agent.conntrack.gc import Conntrack
from services.agent.conntrack.quota import FlowQuota
from tests.bpf.datapath.packets import tcp, udp
from tests.bpf.datapath.rig import (
    A6,
    B6,
    EGRESS,
    INGRESS,
    SIZES,
    TC_ACT_OK,
    TC_ACT_REDIRECT,
    A,
    B,
    Node,
    Pod,
    W,
    node,
    populate,
)

ENTRIES = 1024
SHARE = 0.25
OUT, IN = 2, 0


class Agent:
    """Sweeps and quotas of an agent, over a loaded data plane."""

    def __init__(self, here: Node) -> None:
        self.here = here
        self.clock = CoarseClock(here.objects.program("read_clock"))
        self.quota = FlowQuota(here.objects, share=SHARE, sweep_seconds=30)
        self.gc = Conntrack(here.objects, self.quota, TimeoutConfig(), 30, self.clock.now)

    def close(self) -> None:
        self.gc.close()
        self.quota.close()

    def held(self, pod: Pod, direction: int = OUT, family: int = 0) -> int:
        return self.quota.held(pod.id * 4 + direction + family)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with ExitStack() as stack:
        here = stack.enter_context(node(max_entries=SIZES | {"cilia_ct4": ENTRIES, "cilia_ct6": ENTRIES}))
        populate(here)
        for pod in (A, B):
            here.allow(pod, EGRESS)
            here.allow(pod, INGRESS)
        made = Agent(here)
        stack.callback(made.close)
        yield made


def open_flows(here: Node, source: Pod, destination: Pod, count: int, device: str = "lxc1", first: int = 1) -> int:
    """Begin flows from as many ports; return how many passed."""
    passed = 0
    for port in range(first, first + count):
        passed += here.run("from_pod", udp(source, destination, port), device).retval in (TC_ACT_REDIRECT, TC_ACT_OK)
        if port % 64 == 0:
            here.events()
    here.events()
    return passed


async def test_a_flood_takes_its_part_of_what_is_free_and_others_have_room(agent: Agent) -> None:
    await agent.gc.sweep()
    passed = open_flows(agent.here, A, B, ENTRIES)
    expected = agent.quota.limit(0)
    assert abs(passed - expected) <= 1
    assert agent.held(A) == len(agent.here.flows.items()) == passed < ENTRIES / 4
    assert agent.here.counted(DropReason.CT_QUOTA, Hook.FROM_POD) == ENTRIES - passed
    assert open_flows(agent.here, B, A, 100, "lxc2", first=50_000) == 100
    assert open_flows(agent.here, A6, B6, 100) == 100


async def test_a_flow_that_is_known_is_charged_once(agent: Agent) -> None:
    await agent.gc.sweep()
    here = agent.here
    for revision in (7, 8):
        here.run("from_pod", tcp(A, B), "lxc1")
        here.run("from_pod", tcp(B, A, 80, 40000), "lxc2")
        here.realise(B.slot, revision)
    here.run("from_pod", tcp(A, B, flags="R"), "lxc1")
    here.run("from_pod", tcp(A, B), "lxc1")
    assert (agent.held(A), agent.held(B), agent.held(B, IN)) == (1, 0, 0)


async def test_what_comes_from_elsewhere_is_charged_to_whom_it_comes_apart_from_what_that_one_begins(
    agent: Agent,
) -> None:
    await agent.gc.sweep()
    for port in range(1, 11):
        assert agent.here.run("from_uplink", udp(W, A, port), "uplink").retval == TC_ACT_REDIRECT
    assert (agent.held(A, IN), agent.held(A)) == (10, 0)


async def test_flows_that_are_removed_leave_room(agent: Agent) -> None:
    await agent.gc.sweep()
    open_flows(agent.here, A, B, ENTRIES)
    agent.gc.purge(0xFFFF_0A01_000A)
    await agent.gc.sweep()
    assert (agent.held(A), agent.here.flows.items()) == (0, [])
    assert open_flows(agent.here, A, B, 100) == 100


async def test_flows_that_begin_during_a_sweep_are_counted_once(agent: Agent) -> None:
    open_flows(agent.here, A, B, 50)
    tally = agent.quota.begin()
    open_flows(agent.here, A, B, 30, first=1000)
    for _, entry in agent.here.flows.items():
        tally.note(A.id * 4 + OUT, entry, is_dead=False)
    agent.quota.end(tally, agent.clock.now())
    assert agent.held(A) == 80


async def test_a_count_that_went_wrong_is_right_after_the_next_sweep(agent: Agent) -> None:
    open_flows(agent.here, A, B, 50)
    key, _ = agent.here.flows.items()[0]
    agent.here.flows.delete(key)  # as the kernel may, and tells nobody
    await agent.gc.sweep()
    assert agent.held(A) == 49


async def test_nothing_is_limited_while_the_agent_is_away(agent: Agent) -> None:
    await agent.gc.sweep()
    with (
        agent.here.objects.map(maps.FLOW_ACCOUNT) as account,
        ArrayMemory(account) as memory,
    ):
        memory.store_u32(0, 0, FlowAccountOffset.LEASE)
        memory.store_u32(0, agent.clock.now() - 1000, FlowAccountOffset.LAST_SWEPT)
    assert open_flows(agent.here, A, B, ENTRIES // 2) == ENTRIES // 2
