"""Membership as a function of what was answered: next action, pause, lease, error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.ids import LeaseId, NodeName, Revision
from cilia.contracts.ipam import Heartbeat, Registered, RegisterNode
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.tables import Node
from cilia.errors import Refused, Unavailable
from services.agent.node.membership import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Action, Membership

N1 = NodeName("node1")
OWN = RegisterNode(N1, "192.0.2.1")
AWAY = Unavailable("ipam", "no answer")
EXPIRED = Refused(Problem(ProblemCode.NOT_FOUND, "no such lease"))
BUSY = Refused(Problem(ProblemCode.BUSY, "later"))


def longest(_low: float, high: float) -> float:
    return high


def member(ttl_seconds: int = 30, lease: int = 7) -> Membership:
    membership = Membership(OWN, longest)
    membership.registered(answer(ttl_seconds, lease))
    return membership


def answer(ttl_seconds: int = 30, lease: int = 7) -> Registered:
    return Registered(LeaseId(lease), ttl_seconds, Node(N1, "192.0.2.1", pod_cidrs=("10.1.0.0/28",)), Revision(1))


def test_a_new_node_registers_at_once() -> None:
    membership = Membership(OWN, longest)
    assert membership.next_action(is_connected=True) is Action.REGISTER
    assert membership.pause_seconds() == 0
    assert membership.last_error == "not registered yet"


def test_it_tries_first_and_only_then_looks_whether_the_bus_is_there() -> None:
    membership = Membership(OWN, longest)
    assert membership.next_action(is_connected=False) is Action.REGISTER
    membership.not_registered(AWAY)
    assert membership.next_action(is_connected=False) is Action.AWAIT_BUS
    assert membership.next_action(is_connected=True) is Action.REGISTER


def test_pauses_between_registrations_double_up_to_the_longest() -> None:
    membership = Membership(OWN, longest)
    pauses = []
    for _ in range(8):
        membership.not_registered(AWAY)
        pauses.append(membership.pause_seconds())
    assert pauses[:4] == [FIRST_PAUSE_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_the_return_of_the_bus_begins_the_pauses_anew() -> None:
    membership = Membership(OWN, longest)
    for _ in range(5):
        membership.not_registered(AWAY)
        membership.pause_seconds()
    membership.bus_returned()
    assert membership.pause_seconds() == FIRST_PAUSE_SECONDS


def test_an_error_is_news_once() -> None:
    membership = Membership(OWN, longest)
    assert membership.not_registered(AWAY)
    assert not membership.not_registered(AWAY)
    assert membership.not_registered(BUSY)
    assert membership.last_error == str(BUSY)


def test_a_member_beats_each_third_of_its_leases_life() -> None:
    membership = member(ttl_seconds=30)
    assert membership.next_action(is_connected=False) is Action.HEARTBEAT
    assert membership.pause_seconds() == 10
    assert membership.answer_seconds == 10
    assert membership.heartbeat == Heartbeat(N1, LeaseId(7))
    assert membership.last_error == ""


def test_an_answer_to_a_heartbeat_is_awaited_for_a_second_at_least() -> None:
    assert member(ttl_seconds=1).answer_seconds == 1


def test_silence_leaves_the_node_a_member_that_says_so() -> None:
    membership = member()
    assert not membership.not_beaten(AWAY)
    assert membership.next_action(is_connected=True) is Action.HEARTBEAT
    assert membership.last_error == str(AWAY)
    membership.beaten()
    assert membership.last_error == ""


def test_only_an_expired_lease_ends_membership_and_the_next_registration_shows_it() -> None:
    membership = member()
    assert not membership.not_beaten(BUSY)
    assert membership.not_beaten(EXPIRED)
    assert membership.next_action(is_connected=True) is Action.REGISTER
    assert membership.pause_seconds() == 0
    assert membership.own.lease == 7


@given(st.lists(st.sampled_from(["registered", "away", "busy", "beaten", "silent", "expired", "bus"]), max_size=40))
def test_whatever_happens_a_member_has_a_lease_and_pauses_are_bounded(events: list[str]) -> None:
    membership = Membership(OWN)
    lease = 0
    for event in events:
        is_member = membership.answer is not None
        match event:
            case "registered" if not is_member:
                lease += 1
                membership.registered(answer(lease=lease))
            case "away" if not is_member:
                membership.not_registered(AWAY)
            case "busy" if not is_member:
                membership.not_registered(BUSY)
            case "beaten" if is_member:
                membership.beaten()
            case "silent" if is_member:
                membership.not_beaten(AWAY)
            case "expired" if is_member:
                membership.not_beaten(EXPIRED)
            case "bus":
                membership.bus_returned()
        is_member = membership.answer is not None
        assert membership.lease == lease
        assert (membership.next_action(is_connected=True) is Action.HEARTBEAT) == is_member
        assert 0 <= membership.pause_seconds() <= LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("ttl_seconds", [1, 30, 60])
def test_three_heartbeats_fit_into_a_leases_life(ttl_seconds: int) -> None:
    membership = member(ttl_seconds)
    assert 3 * membership.pause_seconds() <= ttl_seconds
