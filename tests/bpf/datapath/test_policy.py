"""Policy: the entry that decides, flows that are decided anew, and denial until it is realised."""

from typing import NamedTuple

import pytest

from cilia.abi.enums import DropReason, EventKind
from tests.bpf.datapath.packets import echo, tcp, udp
from tests.bpf.datapath.rig import EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node

ALLOWED, DENIED, NONE = 0, DropReason.DENIED_BY_RULE, DropReason.POLICY_DENIED
FINAL = 0xFFFF_FFFF


class Rule(NamedTuple):
    """An entry of A's egress policy."""

    identity: int = 0
    protocol: int = 0
    port: int = 0
    bits: int | None = None
    precedence: int = 1
    deny: bool = False


def write(here: Node, *rules: Rule) -> None:
    here.allow(B, INGRESS, cookie=1)
    for number, rule in enumerate(rules):
        one = rule._asdict()
        here.allow(A, EGRESS, cookie=100 + number, **one)


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ([], NONE),
        ([Rule()], ALLOWED),
        ([Rule(B.identity)], ALLOWED),
        ([Rule(999)], NONE),
        ([Rule(0, 6)], ALLOWED),
        ([Rule(0, 17)], NONE),
        ([Rule(0, 6, 80)], ALLOWED),
        ([Rule(0, 6, 81)], NONE),
        ([Rule(0, 17, 80)], NONE),
        ([Rule(B.identity, 6, 64, 10)], ALLOWED),
        ([Rule(B.identity, 6, 128, 10)], NONE),
        ([Rule(0, 6, 80, 15), Rule(0, 6, 80, 16, deny=True)], DENIED),
        ([Rule(0, 6, 80, 15, deny=True), Rule(0, 6, 80, 16)], ALLOWED),
        ([Rule(B.identity), Rule(0, 6, 80, deny=True)], DENIED),
        ([Rule(B.identity, deny=True), Rule(0, 6, 80)], ALLOWED),
        ([Rule(B.identity, precedence=2), Rule(0, 6, 80, deny=True)], ALLOWED),
        ([Rule(B.identity, 6, 80), Rule(0, precedence=2, deny=True)], DENIED),
        ([Rule(B.identity, 6, 80), Rule(0, 6, 80, deny=True)], ALLOWED),
        ([Rule(B.identity, 6, 80, deny=True), Rule(0, 6, 80)], DENIED),
        ([Rule(B.identity, precedence=FINAL, deny=True), Rule(0, 6, 80, precedence=FINAL)], DENIED),
    ],
)
def test_the_higher_precedence_decides_then_the_longer_entry_then_the_peers_own(
    here: Node, rules: list[Rule], verdict: int
) -> None:
    write(here, *rules)
    ran = here.run("from_pod", tcp(A, B), "lxc1")
    (event,) = here.events()
    assert event.reason == verdict
    assert ran.retval == (TC_ACT_SHOT if verdict else TC_ACT_REDIRECT)


def test_a_drop_names_the_policy_behind_the_entry_that_decided(here: Node) -> None:
    write(here, Rule(0), Rule(B.identity, 6, 80, deny=True))
    here.run("from_pod", tcp(A, B), "lxc1")
    assert here.events()[0].cookie == 101


def test_a_ping_is_judged_by_its_type(here: Node) -> None:
    write(here, Rule(0, 1, 8))
    assert here.run("from_pod", echo(A, B), "lxc1").retval == TC_ACT_REDIRECT
    assert here.run("from_pod", udp(A, B, dport=8), "lxc1").retval == TC_ACT_SHOT


@pytest.mark.parametrize("by_entry", [True, False])
def test_what_is_audited_is_reported_and_passes(here: Node, by_entry: bool) -> None:
    here.allow(B, INGRESS)
    if by_entry:
        here.allow(A, EGRESS, deny=True, audit=True)
    else:
        here.realise(A.slot, audit=True)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    (event,) = here.events()
    assert (event.kind, event.audited) == (EventKind.VERDICT, 1)


@pytest.mark.parametrize("slot", [A.slot, B.slot])
def test_a_pod_without_a_realised_policy_gets_and_sends_nothing(here: Node, slot: int) -> None:
    write(here, Rule())
    here.realise(slot, 0)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_SHOT
    assert here.events()[0].reason == DropReason.POLICY_NOT_READY


def test_a_pod_without_a_subject_sends_nothing(here: Node) -> None:
    write(here, Rule())
    here.add_pod(A, slot=0)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_SHOT
    assert here.events()[0].reason == DropReason.POLICY_NOT_READY


def established(here: Node) -> None:
    write(here, Rule(B.identity, 6, 80))
    here.run("from_pod", tcp(A, B, flags="S"), "lxc1")
    here.run("from_pod", tcp(B, A, 80, 40000), "lxc2")
    here.events()


def forget(here: Node, *, direction: int = EGRESS) -> None:
    """Remove every rule of one side, without a word to the flows."""
    here.policy.delete_many([key for key, _ in here.policy.items() if key.direction == direction])


def test_an_established_flow_asks_no_policy_until_a_revision_grows(here: Node) -> None:
    established(here)
    forget(here)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    here.realise(A.slot, 2)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_SHOT


@pytest.mark.parametrize("pod", [A, B])
def test_a_flow_is_decided_anew_after_the_owner_of_an_address_changed(here: Node, pod: object) -> None:
    established(here)
    forget(here)
    here.renew((A if pod is A else B).address)
    assert here.run("from_pod", tcp(B, A, 80, 40000), "lxc2").retval == TC_ACT_SHOT


def test_a_stale_flow_is_decided_in_its_initiators_direction_when_the_answer_comes_first(here: Node) -> None:
    established(here)
    here.realise(B.slot, 2)
    assert here.run("from_pod", tcp(B, A, 80, 40000), "lxc2").retval == TC_ACT_REDIRECT
    _, entry = here.flow()
    assert entry.initiator == 0
    assert [side.packets for side in entry.side] == [1, 2]
    assert here.events()[0].kind == EventKind.VERDICT
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    assert here.events() == []


def test_a_stale_flow_that_is_denied_now_is_dropped_when_the_answer_comes_first(here: Node) -> None:
    established(here)
    forget(here, direction=INGRESS)
    here.realise(B.slot, 2)
    assert here.run("from_pod", tcp(B, A, 80, 40000), "lxc2").retval == TC_ACT_SHOT
    assert here.events()[0].direction == INGRESS


def test_a_flow_stops_when_the_policy_of_an_end_is_withdrawn(here: Node) -> None:
    established(here)
    here.realise(B.slot, 0)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_SHOT
    assert here.events()[0].reason == DropReason.POLICY_NOT_READY


def test_the_set_in_force_decides(here: Node) -> None:
    write(here, Rule())
    here.realise(A.slot, 2, entry_set=1)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_SHOT
    here.allow(A, EGRESS, entry_set=1)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT


def test_one_store_to_the_epoch_switches_every_prepared_subject(here: Node) -> None:
    established(here)
    for pod in (A, B):
        here.prepare(pod.slot, 5, epoch=3, entry_set=1)
    here.switch(2)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    here.switch(3)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_SHOT
    here.allow(A, EGRESS, entry_set=1)
    here.allow(B, INGRESS, entry_set=1)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT


def test_making_the_next_version_the_current_one_changes_nothing(here: Node) -> None:
    established(here)
    here.allow(A, EGRESS, entry_set=1)
    here.prepare(A.slot, 5, epoch=3, entry_set=1)
    here.switch(3)
    here.run("from_pod", tcp(A, B), "lxc1")
    here.events()
    here.realise(A.slot, 5, entry_set=1)
    here.slots.store_u32(A.slot, 0, 16)
    assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
    assert here.events() == []


SET, OTHER_SET = 1 << 31 | 1, 1 << 31 | 2


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ([], NONE),
        ([Rule(SET, 6, 80)], ALLOWED),
        ([Rule(SET, 6, 81)], NONE),
        ([Rule(SET)], ALLOWED),
        ([Rule(OTHER_SET, 6, 80)], NONE),
        ([Rule(B.identity, 6, 80)], NONE),
        ([Rule(SET, 6, 80), Rule(0, 6, 80, precedence=2, deny=True)], DENIED),
        ([Rule(SET, 6, 80, precedence=2, deny=True), Rule(0, 6, 80)], DENIED),
        ([Rule(0, 6, 80)], ALLOWED),
    ],
)
def test_a_member_of_a_set_has_the_entries_of_the_set_and_no_others(
    here: Node, rules: list[Rule], verdict: int
) -> None:
    write(here, *rules)
    here.allow(A, EGRESS, B.identity, cookie=SET, is_member=True)
    ran = here.run("from_pod", tcp(A, B), "lxc1")
    (event,) = here.events()
    assert event.reason == verdict
    assert ran.retval == (TC_ACT_SHOT if verdict else TC_ACT_REDIRECT)
