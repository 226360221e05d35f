"""The agent's sweep of mappings, over what the programs themselves have made of flows."""

from collections.abc import Iterator
from typing import Any

import pytest

from cilia.abi.structs import CtEntry
from cilia.datapath.clock import CoarseClock
from cilia.datapath.maps import Map
from services.agent.nat.gc import NatGc
from tests.bpf.datapath.packets import echo, tcp, udp
from tests.bpf.datapath.rig import A6, EGRESS, W6, A, B, Node, Pod, W, node, populate, reset

FAMILIES = [(A, W), (A6, W6)]
IDS = ["IPv4", "IPv6"]


@pytest.fixture(scope="module")
def router() -> Iterator[Node]:
    with node(variables={"masquerades": 1}) as made:
        yield made


@pytest.fixture
def here(router: Node) -> Node:
    reset(router)
    populate(router)
    for pod in (A, B):
        router.allow(pod, EGRESS)
    return router


@pytest.fixture
def mappings(here: Node) -> Iterator[NatGc]:
    mappings = NatGc(here.objects, 30, CoarseClock(here.objects.program("read_clock")).now)
    yield mappings
    mappings.close()


def send(here: Node, frame: bytes) -> None:
    here.run("from_pod", frame, "lxc1")
    here.run("to_uplink", frame, "uplink")


@pytest.mark.parametrize(("pod", "world"), FAMILIES, ids=IDS)
async def test_mappings_of_known_flows_stay_and_of_forgotten_ones_go(
    here: Node, mappings: NatGc, pod: Pod, world: Pod
) -> None:
    for frame in (tcp(pod, world), udp(pod, world), echo(pod, world)):
        send(here, frame)
    await mappings.sweep()
    assert (mappings.entries, mappings.counters.removed) == (6, 0)
    flows: Map[Any, CtEntry] = here.flows if pod is A else here.flows6
    for key, _ in flows.items():
        if key.protocol == 17:
            flows.delete(key)
    await mappings.sweep()
    assert mappings.counters.removed == 0, "their ports rest for a while"
    await mappings.sweep()
    assert mappings.counters.removed == 2
    assert {key.protocol for key, _ in here.nat.items()} == {key.protocol for key, _ in flows.items()}
    assert len(here.nat.items()) == 4


@pytest.mark.parametrize("is_reply", [0, 1])
async def test_half_a_mapping_goes_with_the_second_sweep_that_finds_it_alone(
    here: Node, mappings: NatGc, is_reply: int
) -> None:
    send(here, tcp(A, W))
    lost = next(key for key, _ in here.nat.items() if key.is_reply != is_reply)
    here.nat.delete(lost)
    await mappings.sweep()
    assert len(here.nat.items()) == 1, "it may have been under way"
    await mappings.sweep()
    assert here.nat.items() == []


async def test_half_a_mapping_that_was_completed_meanwhile_stays(here: Node, mappings: NatGc) -> None:
    send(here, tcp(A, W))
    lost, value = next((key, value) for key, value in here.nat.items() if not key.is_reply)
    here.nat.delete(lost)
    await mappings.sweep()
    here.nat.update(lost, value)
    await mappings.sweep()
    await mappings.sweep()
    assert len(here.nat.items()) == 2
