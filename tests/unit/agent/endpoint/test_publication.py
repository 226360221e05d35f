"""Rows: published with what the pod has, withdrawn until the identity service has answered."""

import asyncio
from itertools import pairwise

import pytest

from cilia.contracts.agent import AwaitAddresses
from cilia.contracts.identity_service import Published, PublishEndpoint, WithdrawEndpoint
from cilia.contracts.ids import EndpointId, Incarnation, NodeName, Revision
from cilia.contracts.messages import Empty, Problem, ProblemCode, Revised
from cilia.contracts.realisation import NodeRealised, Realised
from cilia.errors import Refused, Unavailable
from services.agent.endpoint.publication import ATTEMPTS, Publication
from tests.fakes.clock import in_fake_time, now, settle
from tests.unit.agent.endpoint.test_store import pod
from tests.unit.agent.scripted_bus import ScriptedBus

AWAY = Unavailable("identity", "no answer")
ID = EndpointId(7)


def over(bus: ScriptedBus) -> Publication:
    return Publication(bus.as_bus(), NodeName("node1"))


@in_fake_time
async def test_a_row_has_the_pods_addresses_labels_and_the_nodes_incarnation() -> None:
    bus = ScriptedBus(identity_publish=lambda message: Published(message.endpoint, Revision(4)))
    published = await over(bus).publish(pod(7), Incarnation(9))
    ((call, message),) = bus.asked
    assert call == "identity.publish"
    assert isinstance(message, PublishEndpoint)
    assert (message.endpoint.node, message.endpoint.id, message.endpoint.ipv4) == ("node1", 7, "10.1.0.2")
    assert (message.labels, message.incarnation) == (("k8s:app=web",), 9)
    assert published.revision == 4


@in_fake_time
async def test_a_replica_that_hangs_costs_an_attempt_and_not_the_pod() -> None:
    answers = iter([AWAY] * (ATTEMPTS - 1))
    bus = ScriptedBus(identity_publish=lambda message: next(answers, Published(message.endpoint, Revision(4))))
    assert (await over(bus).publish(pod(7), Incarnation(9))).revision == 4
    assert len(bus.asked) == ATTEMPTS


@in_fake_time
async def test_who_never_answers_is_named_after_a_few_attempts() -> None:
    bus = ScriptedBus(identity_publish=lambda _: AWAY)
    with pytest.raises(Unavailable, match="no answer"):
        await over(bus).publish(pod(7), Incarnation(9))
    assert len(bus.asked) == ATTEMPTS


@in_fake_time
async def test_a_withdrawal_is_repeated_with_growing_pauses_until_it_is_answered() -> None:
    answers = iter([AWAY, AWAY, AWAY, Revised(Revision(1))])
    bus = ScriptedBus(identity_withdraw=lambda _: next(answers))
    rows = over(bus)
    finished: list[float] = []
    done = rows.withdraw(ID, lambda: finished.append(now()))
    running = asyncio.create_task(rows.run())
    await done.wait()
    pauses = [late - early for early, late in pairwise(bus.asked_at)]
    assert [message for _, message in bus.asked] == [WithdrawEndpoint(NodeName("node1"), ID)] * 4
    assert 1 <= pauses[0] <= 2 <= pauses[1] <= 4
    assert 2.5 <= pauses[2] <= 5
    assert (len(finished), rows.pending) == (1, 0)
    running.cancel()


@in_fake_time
async def test_a_row_that_is_gone_already_counts_as_withdrawn_and_another_refusal_does_not() -> None:
    gone = Refused(Problem(ProblemCode.NOT_FOUND, "no such row"))
    answers = iter([Refused(Problem(ProblemCode.BUSY, "later")), gone])
    rows = over(ScriptedBus(identity_withdraw=lambda _: next(answers)))
    done = rows.withdraw(ID, lambda: None)
    running = asyncio.create_task(rows.run())
    await settle()
    assert rows.pending == 1
    await done.wait()
    assert rows.pending == 0
    running.cancel()


@in_fake_time
async def test_one_that_is_answered_is_finished_while_another_is_not() -> None:
    bus = ScriptedBus(identity_withdraw=lambda message: AWAY if message.id == 8 else Revised(Revision(1)))
    rows = over(bus)
    finished: list[int] = []
    rows.withdraw(ID, lambda: finished.append(7))
    rows.withdraw(EndpointId(8), lambda: finished.append(8))
    running = asyncio.create_task(rows.run())
    await settle()
    assert (finished, rows.pending) == ([7], 1)
    running.cancel()


@in_fake_time
async def test_a_second_wish_to_withdraw_waits_for_the_first() -> None:
    rows = over(ScriptedBus(identity_withdraw=lambda _: Revised(Revision(1))))
    finished: list[int] = []
    first = rows.withdraw(ID, lambda: finished.append(1))
    assert rows.withdraw(ID, lambda: finished.append(2)) is first
    running = asyncio.create_task(rows.run())
    await first.wait()
    assert finished == [1]
    running.cancel()


POD = pod(7)
N2 = NodeName("n2")
ADDRESSES = {"n2.addresses-wait": lambda _: Empty()}


def known(*, complete: bool = True, stragglers: tuple[NodeName, ...] = ()) -> Realised:
    nodes = tuple(NodeRealised(NodeName(name), 1, 0.0) for name in ("node1", "n2"))
    return Realised(Revision(4), complete, nodes, stragglers)


@in_fake_time
async def test_who_knows_an_identity_is_asked_once_and_the_addresses_of_each_pod_are_awaited_there() -> None:
    bus = ScriptedBus(policy_known=lambda _: known(), **ADDRESSES)
    rows = over(bus)
    for _ in range(2):
        await rows.wait_known(POD, Revision(4), seconds=1)
    assert [call for call, _ in bus.asked] == ["policy.known", "n2.addresses-wait", "n2.addresses-wait"]
    asked = bus.asked[-1][1]
    assert isinstance(asked, AwaitAddresses)
    assert (asked.addresses, asked.identity) == (("10.1.0.2",), POD.identity)
    assert dict(rows.unaware) == {}
    rows.forget_known(POD.identity)
    await rows.wait_known(POD, Revision(9), seconds=1)
    assert bus.asked[-2][0] == "policy.known"


@in_fake_time
async def test_nodes_that_are_late_are_named_until_they_know_it() -> None:
    answers = iter([known(complete=False, stragglers=(N2,)), known(), known()])
    waits: list[Empty | Unavailable] = [AWAY, Empty()]
    rows = over(ScriptedBus(policy_known=lambda _: next(answers), **{"n2.addresses-wait": lambda _: waits.pop(0)}))
    await rows.wait_known(POD, Revision(4), seconds=1)
    assert rows.unaware == {POD.identity: (N2,)}
    await rows.wait_known(POD, Revision(5), seconds=1)
    assert rows.unaware == {POD.identity: (N2,)}, "it has the policy, and not the address"
    await rows.wait_known(POD, Revision(5), seconds=1)
    assert dict(rows.unaware) == {}


@in_fake_time
async def test_a_policy_service_that_is_away_leaves_open_who_knows() -> None:
    rows = over(ScriptedBus(policy_known=lambda _: AWAY))
    await rows.wait_known(POD, Revision(4), seconds=1)
    assert rows.unaware == {POD.identity: ()}
    rows.forget_known(POD.identity)
    assert dict(rows.unaware) == {}
