"""Prefixes have identities, and nodes tell them apart, before a policy names them."""

import asyncio
from collections.abc import Set

import pytest

from cilia.contracts.agent import AwaitPrefixes
from cilia.contracts.identity_service import AllocatePrefixes
from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.messages import Empty, Problem, ProblemCode, Revised
from cilia.errors import Refused, Unavailable
from services.policy.changes.prefix_reservation import WAIT_SECONDS, PrefixReservation
from services.policy.resolution.identity_nodes import IdentityNodes
from tests.fakes.bus import Broker
from tests.fakes.clock import in_fake_time, now
from tests.unit.policy.service.agents import answer
from tests.unit.policy.service.changes_of import endpoint

N1, N2 = NodeName("n1"), NodeName("n2")
MADE = Revised(Revision(42))
KNOWN, NEW = "192.0.2.0/24", "198.51.100.0/24"


class Reserving:
    """A reservation with pods on two nodes; remembers what identity and agents are asked for."""

    def __init__(self, named: Set[str] = frozenset()) -> None:
        self.bus = Broker().bus()
        self.nodes = IdentityNodes()
        for node in (N1, N2):
            self.nodes.take(endpoint(node, 1, 300))
        self.allocated: list[tuple[str, ...]] = []
        self.awaited: list[tuple[str, tuple[str, ...]]] = []
        self.reached: list[int] = []
        self.never = False
        self.reservation = PrefixReservation(self.bus, self.nodes, lambda: named, self.reach)

    async def reach(self, revision: Revision) -> None:
        if self.never:
            await asyncio.Event().wait()
        self.reached.append(revision)

    async def serve(self, *nodes: NodeName, identity: Revised | Problem = MADE) -> None:
        def allocate(request: AllocatePrefixes) -> Revised | Problem:
            self.allocated.append(request.prefixes)
            return identity

        await answer(self.bus, self.bus.subjects.request("identity", "prefixes"), AllocatePrefixes, allocate)
        for node in nodes:

            def wait(request: AwaitPrefixes, node: str = node) -> Empty:
                self.awaited.append((node, request.prefixes))
                return Empty()

            await answer(self.bus, self.bus.subjects.node(node, "prefixes-wait"), AwaitPrefixes, wait)


@in_fake_time
async def test_every_node_tells_a_new_prefix_apart_once_it_is_resolved() -> None:
    reserving = Reserving({KNOWN})
    await reserving.serve(N1, N2)
    await reserving.reservation.reserve([NEW, KNOWN, NEW])
    assert reserving.allocated == [(KNOWN, NEW)]
    assert reserving.reached == [42]
    assert sorted(reserving.awaited) == [(N1, (NEW,)), (N2, (NEW,))]


@in_fake_time
async def test_known_prefixes_are_used_again_and_nobody_waits_for_them() -> None:
    reserving = Reserving({KNOWN})
    await reserving.serve(N1, N2)
    await reserving.reservation.reserve([KNOWN])
    assert (reserving.allocated, reserving.reached, reserving.awaited) == ([(KNOWN,)], [], [])


@in_fake_time
async def test_a_policy_without_prefixes_asks_nobody() -> None:
    reserving = Reserving()
    await reserving.reservation.reserve([])
    assert reserving.allocated == []


@in_fake_time
async def test_no_policy_names_a_prefix_that_gets_no_identity() -> None:
    with pytest.raises(Unavailable):
        await Reserving().reservation.reserve([NEW])
    reserving = Reserving()
    await reserving.serve(N1, identity=Problem(ProblemCode.EXHAUSTED, "no number is left"))
    with pytest.raises(Refused, match="no number is left"):
        await reserving.reservation.reserve([NEW])
    assert reserving.awaited == []


@in_fake_time
async def test_a_node_that_is_cut_off_holds_nobody_up() -> None:
    reserving = Reserving()
    await reserving.serve(N2)
    await reserving.reservation.reserve([NEW])
    assert reserving.awaited == [(N2, (NEW,))]


@in_fake_time
async def test_a_replica_that_lags_holds_a_change_up_for_two_seconds_only() -> None:
    reserving = Reserving()
    reserving.never = True
    await reserving.serve(N1, N2)
    await reserving.reservation.reserve([NEW])
    assert now() == WAIT_SECONDS
    assert len(reserving.awaited) == 2
