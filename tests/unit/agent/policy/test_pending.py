from cilia.contracts.ids import Identity
from services.agent.policy.pending import PendingGroups

ONE, TWO, THREE, FOUR = map(Identity, (301, 302, 303, 304))


def test_what_changed_in_one_act_waits_for_its_slowest() -> None:
    pending = PendingGroups()
    pending.add([ONE, TWO])
    pending.add([THREE])
    assert pending.take(lambda identity: identity != TWO) == {THREE}
    assert pending.take(lambda _: True) == {ONE, TWO}
    assert pending.take(lambda _: True) == set()


def test_acts_that_share_a_subject_become_one() -> None:
    pending = PendingGroups()
    pending.add([ONE, TWO])
    pending.add([THREE, FOUR])
    pending.add([TWO, THREE])
    assert pending.take(lambda identity: identity != FOUR) == set()
    assert pending.take(lambda _: True) == {ONE, TWO, THREE, FOUR}


def test_nothing_is_no_act() -> None:
    pending = PendingGroups()
    pending.add([])
    assert pending.take(lambda _: False) == set()
