"""Waits until a revision is in force: acknowledgements, and nodes that are asked for theirs."""

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec

from cilia.contracts.agent import EndpointPolicy, EndpointReference, PolicyRule
from cilia.contracts.ids import Identity, NodeName, Revision
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.contracts.realisation import Acknowledgement, WaitKnown, WaitRealised
from cilia.contracts.tables import PolicyEntry, PolicyKey, SubjectKey
from cilia.notify import Broadcast
from services.policy.realisation.acknowledgements import hear_acknowledgements
from services.policy.realisation.ledger import RealisationLedger
from services.policy.realisation.waiter import LONGEST_SECONDS, RevisionWaiter
from tests.fakes.bus import Broker, FakeBus
from tests.fakes.clock import in_fake_time, now, settle
from tests.unit.policy.service.agents import answer, in_kernel, local

WEB = Identity(300)
N1, N2 = NodeName("n1"), NodeName("n2")
RULE = PolicyRule(PolicyKey(False, Identity(0), 0, 0, 0), PolicyEntry(False, 1))
RESOLVED: Mapping[SubjectKey, PolicyEntry] = {SubjectKey(WEB, RULE.key): RULE.entry}


def _same(held: EndpointPolicy, _: EndpointReference) -> EndpointPolicy:
    return held


class Waits:
    """A waiter whose replica has resolved revision 10, which concerns WEB on its nodes."""

    def __init__(self, *nodes: NodeName) -> None:
        self.bus: FakeBus = Broker().bus()
        self.ledger = RealisationLedger()
        self.progressed = Broadcast()
        self.sequence = 10
        self.counts = {WEB: dict.fromkeys(nodes, 1)}
        self.ledger.change(Revision(10), [WEB], accepted_ns=0)
        self.waiter = RevisionWaiter(
            self.bus,
            self.ledger,
            endpoint_counts=lambda: self.counts,
            resolved=lambda subject: RESOLVED,
            reach=self.reach,
            progressed=self.progressed,
        )

    async def reach(self, revision: Revision) -> None:
        await self.progressed.wait_until(lambda: self.sequence >= revision)

    def acknowledge(self, node: NodeName, revision: int = 10) -> None:
        self.ledger.acknowledge(Acknowledgement(node, {WEB: Revision(revision)}, 1, 0))
        self.progressed.notify()


@in_fake_time
async def test_a_wait_ends_with_the_acknowledgement_of_the_last_node() -> None:
    waits = Waits(N1, N2)
    waiting = asyncio.create_task(waits.waiter.wait(WaitRealised(Revision(10), 5)))
    await settle()
    waits.acknowledge(N1)
    await settle()
    assert not waiting.done()
    waits.acknowledge(N2)
    assert (await waiting).complete
    assert now() < 0.5


@in_fake_time
async def test_a_wait_that_is_over_names_the_stragglers() -> None:
    waits = Waits(N1, N2)
    waits.acknowledge(N1)
    found = await waits.waiter.wait(WaitRealised(Revision(10), 3))
    assert (found.complete, found.stragglers, now()) == (False, (N2,), 3)


@in_fake_time
async def test_nobody_waits_longer_than_a_minute_or_less_than_nothing() -> None:
    waits = Waits(N1)
    assert not (await waits.waiter.wait(WaitRealised(Revision(10), -1))).complete
    assert now() == 0
    await waits.waiter.wait(WaitRealised(Revision(10), 9999))
    assert now() == LONGEST_SECONDS


@in_fake_time
async def test_without_a_revision_the_newest_is_meant() -> None:
    waits = Waits(N1)
    waits.acknowledge(N1)
    assert (await waits.waiter.wait(WaitRealised(Revision(0)))).revision == 10


@in_fake_time
async def test_a_revision_that_is_not_resolved_yet_is_waited_for() -> None:
    waits = Waits(N1)
    waits.sequence = 9
    waits.acknowledge(N1)
    waiting = asyncio.create_task(waits.waiter.wait(WaitRealised(Revision(10), 5)))
    await settle()
    assert not waiting.done()
    waits.sequence = 10
    waits.progressed.notify()
    assert (await waiting).complete


@in_fake_time
async def test_a_node_whose_acknowledgement_is_lost_is_asked_after_half_a_second() -> None:
    waits = Waits(N1)
    await answer(waits.bus, waits.bus.subjects.node(N1, "endpoint-list"), Empty, lambda _: local(WEB, 10, N1))
    assert (await waits.waiter.wait(WaitRealised(Revision(10), 5))).complete
    assert 0.5 <= now() < 1


@in_fake_time
async def test_a_node_that_is_behind_is_not_taken_for_done_and_asked_again() -> None:
    waits = Waits(N1)
    told = [9, 9, 10]
    subject = waits.bus.subjects.node(N1, "endpoint-list")
    await answer(waits.bus, subject, Empty, lambda _: local(WEB, told.pop(0), N1))
    assert (await waits.waiter.wait(WaitRealised(Revision(10), 5))).complete
    assert told == []


@in_fake_time
async def test_a_node_that_refuses_to_tell_stays_a_straggler() -> None:
    waits = Waits(N1)
    subject = waits.bus.subjects.node(N1, "endpoint-list")
    await answer(waits.bus, subject, Empty, lambda _: Problem(ProblemCode.BUSY, "later"))
    assert (await waits.waiter.wait(WaitRealised(Revision(10), 2))).stragglers == (N1,)


@in_fake_time
async def test_after_a_restart_what_the_kernel_holds_tells_who_has_it_in_force() -> None:
    for rules, complete in (((RULE,), True), ((), False)):
        waits = Waits(N1)
        waits.ledger.start(Revision(10), newest=Revision(10), nodes={N1})
        node = waits.bus.subjects.node
        await answer(waits.bus, node(N1, "endpoint-list"), Empty, lambda _: local(WEB, 9, N1))
        held = in_kernel(WEB, *rules)
        await answer(waits.bus, node(N1, "policy-get"), EndpointReference, partial(_same, held))
        assert (await waits.waiter.wait(WaitRealised(Revision(10), 1))).complete is complete


@in_fake_time
async def test_acknowledgements_are_heard_with_the_capacity_of_their_node() -> None:
    waits = Waits(N1)
    learnt: list[tuple[NodeName, int]] = []
    loop = asyncio.create_task(
        hear_acknowledgements(waits.bus, waits.ledger, lambda *told: learnt.append(told), waits.progressed)
    )
    await settle()
    subject = waits.bus.subjects.ack(N1)
    await waits.bus.publish(subject, b"{garbled")
    ack = Acknowledgement(N1, {WEB: Revision(10)}, 1, 0, capacity=65_536)
    await waits.bus.publish(subject, msgspec.json.encode(ack))
    assert (await waits.waiter.wait(WaitRealised(Revision(10), 5))).complete
    assert learnt == [(N1, 65_536)]
    loop.cancel()


@in_fake_time
async def test_a_new_identity_is_known_once_the_nodes_whose_policy_names_it_have_acknowledged() -> None:
    waits = Waits(N1, N2)
    waits.ledger.change_identities(Revision(12), [Identity(301)], frozenset({WEB}), stored_ns=0)
    waiting = asyncio.create_task(waits.waiter.known(WaitKnown(Identity(301), Revision(12))))
    await settle()
    waits.acknowledge(N1, 12)
    waits.acknowledge(N2, 12)
    await settle()
    assert not waiting.done(), "this replica has not resolved the revision itself"
    waits.sequence = 12
    waits.progressed.notify()
    assert (await waiting).complete


@in_fake_time
async def test_who_does_not_know_an_identity_in_time_is_named() -> None:
    waits = Waits(N1, N2)
    waits.ledger.change_identities(Revision(10), [Identity(301)], frozenset({WEB}), stored_ns=0)
    waits.acknowledge(N1)
    told = await waits.waiter.known(WaitKnown(Identity(301), Revision(10), 2))
    assert (told.complete, told.stragglers, now()) == (False, (N2,), 2)
