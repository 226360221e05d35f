"""Capacity of nodes' policy maps: heard from acknowledgements, asked for once, or the default."""

from cilia.abi.enums import PolicyLimit
from cilia.contracts.agent import MapList, MapSummary
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty, Problem, ProblemCode
from services.policy.changes.capacity import POLICY_MAP, MapCapacities
from tests.fakes.bus import Broker
from tests.fakes.clock import in_fake_time, now
from tests.unit.policy.service.agents import answer

N1, N2 = NodeName("n1"), NodeName("n2")


class Asking:
    """Capacities of nodes whose agents count how often they are asked."""

    def __init__(self) -> None:
        self.bus = Broker().bus()
        self.capacities = MapCapacities(self.bus)
        self.asked: list[str] = []

    async def serve(self, node: NodeName, reply: MapList | Problem) -> None:
        def tell(_: Empty) -> MapList | Problem:
            self.asked.append(node)
            return reply

        await answer(self.bus, self.bus.subjects.node(node, "map-list"), Empty, tell)


def maps(**sizes: int) -> MapList:
    return MapList(tuple(MapSummary(name, "hash", 16, 8, 0, size, 4096) for name, size in sizes.items()))


@in_fake_time
async def test_an_agent_that_has_not_said_is_asked_once() -> None:
    asking = Asking()
    await asking.serve(N1, maps(cilia_ipcache=7, **{POLICY_MAP: 1000}))
    for _ in range(2):
        assert await asking.capacities.of({N1}) == {N1: 1000}
    assert asking.asked == [N1]


@in_fake_time
async def test_what_an_acknowledgement_says_counts_and_nothing_said_changes_nothing() -> None:
    asking = Asking()
    asking.capacities.learn(N1, 500)
    asking.capacities.learn(N1, 0)
    assert await asking.capacities.of({N1}) == {N1: 500}
    asking.capacities.learn(N1, 600)
    assert (await asking.capacities.of({N1}), asking.asked) == ({N1: 600}, [])


@in_fake_time
async def test_nodes_that_do_not_answer_refuse_or_have_no_such_map_are_taken_as_by_default() -> None:
    asking = Asking()
    await asking.serve(N1, Problem(ProblemCode.BUSY, "starting"))
    await asking.serve(N2, maps(cilia_ipcache=7))
    absent = NodeName("absent")
    default = int(PolicyLimit.ENTRIES)
    assert await asking.capacities.of({N1, N2, absent}) == {N1: default, N2: default, absent: default}
    assert sorted(asking.asked) == [N1, N2]
    assert now() <= 1


@in_fake_time
async def test_nobody_is_asked_about_no_node() -> None:
    asking = Asking()
    assert (await asking.capacities.of(set()), asking.asked) == ({}, [])
