"""Membership as a function of what was answered: next action, pause, incarnation, error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.ipam import Heartbeat, Registered, RegisterNode
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.tables import Node
from cilia.errors import Refused, Unavailable
from services.agent.node.membership import ATTEMPTS, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Action, Membership

N1 = NodeName("node1")
OWN = RegisterNode(N1, "192.0.2.1")
AWAY = Unavailable("ipam", "no answer")
REMOVED = Refused(Problem(ProblemCode.NOT_FOUND, "no such node"))
BUSY = Refused(Problem(ProblemCode.BUSY, "later"))


def longest(_low: float, high: float) -> float:
    return high


def member(stale_seconds: int = 30, incarnation: int = 7) -> Membership:
    membership = Membership(OWN, longest)
    membership.registered(answer(stale_seconds, incarnation))
    return membership


def answer(stale_seconds: int = 30, incarnation: int = 7) -> Registered:
    return Registered(
        Incarnation(incarnation), stale_seconds, Node(N1, "192.0.2.1", pod_cidrs=("10.1.0.0/28",)), Revision(1)
    )


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


def test_a_member_beats_at_once_and_then_thrice_before_it_would_be_stale() -> None:
    membership = member(stale_seconds=30)
    assert membership.next_action(is_connected=False) is Action.HEARTBEAT
    assert membership.pause_seconds() == 0
    assert membership.heartbeat == Heartbeat(N1, Incarnation(7))
    membership.beaten()
    assert membership.pause_seconds() == 10
    assert membership.last_error == ""


def test_an_answer_to_a_heartbeat_is_awaited_for_a_second_at_least() -> None:
    assert member(stale_seconds=1).answer_seconds == 1


def test_a_heartbeat_is_tried_thrice_before_the_node_would_be_stale_and_then_it_is_an_error() -> None:
    membership, seconds = member(stale_seconds=30), 0.0
    membership.beaten()
    for _ in range(ATTEMPTS):
        assert membership.last_error == ""
        seconds += membership.pause_seconds() + membership.answer_seconds
        assert not membership.not_beaten(AWAY)
        assert membership.next_action(is_connected=True) is Action.HEARTBEAT
    assert seconds < 30
    assert membership.last_error == str(AWAY)
    membership.beaten()
    assert membership.last_error == ""


def test_only_removal_ends_membership_and_the_next_registration_shows_the_incarnation() -> None:
    membership = member()
    assert not membership.not_beaten(BUSY)
    assert membership.not_beaten(REMOVED)
    assert membership.next_action(is_connected=True) is Action.REGISTER
    assert membership.pause_seconds() == 0
    assert membership.own.incarnation == 7


@given(st.lists(st.sampled_from(["registered", "away", "busy", "beaten", "silent", "removed", "bus"]), max_size=40))
def test_whatever_happens_a_member_has_an_incarnation_and_pauses_are_bounded(events: list[str]) -> None:
    membership = Membership(OWN)
    incarnation = 0
    for event in events:
        is_member = membership.answer is not None
        match event:
            case "registered" if not is_member:
                incarnation += 1
                membership.registered(answer(incarnation=incarnation))
            case "away" if not is_member:
                membership.not_registered(AWAY)
            case "busy" if not is_member:
                membership.not_registered(BUSY)
            case "beaten" if is_member:
                membership.beaten()
            case "silent" if is_member:
                membership.not_beaten(AWAY)
            case "removed" if is_member:
                membership.not_beaten(REMOVED)
            case "bus":
                membership.bus_returned()
        is_member = membership.answer is not None
        assert membership.incarnation == incarnation
        assert (membership.next_action(is_connected=True) is Action.HEARTBEAT) == is_member
        assert 0 <= membership.pause_seconds() <= LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("stale_seconds", [1, 30, 60])
def test_three_heartbeats_fit_into_the_time_after_which_a_node_is_stale(stale_seconds: int) -> None:
    membership = member(stale_seconds)
    membership.beaten()
    assert 3 * membership.pause_seconds() <= stale_seconds
