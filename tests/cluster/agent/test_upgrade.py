"""An agent whose data plane has other maps takes over from another, while pods talk."""

import asyncio
from pathlib import Path

import pytest

from cilia.abi.maps import CT4
from cilia.datapath.descriptor import get_pinned
from cilia.datapath.maps import Map
from tests.bpf.datapath.variant import SWAPPED_COUNTERS, compile_variant
from tests.cluster.agent.node import Node, monitor
from tests.cluster.agent.test_agent import answered, ping

pytestmark = pytest.mark.cluster

PACKETS = 600


@pytest.fixture
async def former(node: Node, tmp_path: Path) -> Node:
    """A node on which a version with another layout of flows and another size of the policy map
    runs.
    """
    (tmp_path / "former").mkdir()
    await node.start(object_file=compile_variant(tmp_path / "former", SWAPPED_COUNTERS), maps_policy=1024)
    return node


def packets_of_the_flow(node: Node) -> tuple[int, ...]:
    """Return how many packets each end has sent, as the kernel counts them."""
    with Map(get_pinned(node.pins / CT4.name), CT4) as flows:
        ((_, entry),) = flows.items()
        return tuple(side.packets for side in entry.side)


async def test_no_packet_is_lost_and_flows_are_the_same(former: Node) -> None:
    web, db = await former.add_pod("web", app="web"), await former.add_pod("db", app="db")
    process = ping(web, db, f"-c{PACKETS}", "-i0.01", "-W1")
    await asyncio.sleep(1)
    former.kill()
    await former.start(maps_conntrack=8192)
    async with monitor(former, "verdict") as verdicts:
        await former.call("status")
        assert await asyncio.to_thread(answered, process) == PACKETS
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await verdicts.readline()
    assert packets_of_the_flow(former) == (PACKETS, PACKETS)


async def test_what_was_denied_stays_denied_at_every_moment(former: Node) -> None:
    former.owners.policy = {}
    web, db = await former.add_pod("web"), await former.add_pod("db")
    process = ping(web, db, "-c300", "-i0.01", "-W0.1")
    await asyncio.sleep(0.5)
    former.kill()
    await former.start(maps_conntrack=8192, maps_policy=2048)
    assert await asyncio.to_thread(answered, process) == 0


async def test_an_agent_without_room_for_what_is_in_force_does_not_start_and_pods_talk_on(former: Node) -> None:
    web, db = await former.add_pod("web", app="web"), await former.add_pod("db", app="db")
    former.kill()
    refused = await asyncio.to_thread(former.refused, maps_policy=1)
    assert "cilia_policy: update" in refused
    assert "(full: 1 entries" in refused
    assert answered(ping(web, db, "-c3", "-i0.05", "-W1")) == 3
    await former.start()
    assert answered(ping(web, db, "-c3", "-i0.05", "-W1")) == 3
