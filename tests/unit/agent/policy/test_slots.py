import pytest

from cilia.contracts.ids import Identity
from services.agent.errors import NoSlot
from services.agent.policy.slots import Slots


def test_slot_zero_is_never_given_out() -> None:
    assert Slots(4).assign(Identity(300)) == 1


def test_an_identity_keeps_its_slot() -> None:
    slots = Slots(4)
    assert slots.assign(Identity(300)) == slots.assign(Identity(300)) == slots.get(Identity(300))


def test_slots_of_a_former_agent_are_taken() -> None:
    slots = Slots(4, {Identity(300): 1})
    assert slots.assign(Identity(301)) == 2


def test_a_released_slot_is_used_again_last() -> None:
    slots = Slots(4)
    slots.assign(Identity(300))
    slots.release(Identity(300))
    assert [slots.assign(Identity(n)) for n in (301, 302, 303)] == [2, 3, 1]


def test_when_all_slots_are_taken_the_identity_is_named() -> None:
    slots = Slots(2)
    slots.assign(Identity(300))
    with pytest.raises(NoSlot, match="identity 301"):
        slots.assign(Identity(301))
