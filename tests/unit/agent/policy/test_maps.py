"""Policy maps as the agent writes them; a successor finishes what one that died began."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi import maps
from cilia.abi.enums import ChangePart
from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.errors import MapFull
from services.agent import change
from services.agent.policy import maps as module
from services.agent.policy.instructions import (
    UNREALISED,
    AwaitGracePeriod,
    Entries,
    Instruction,
    PutEntries,
    RealisedPolicy,
    StoreIdentity,
    StoreVersion,
    Version,
)
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.plan import Change, plan, plan_release
from tests.unit.agent.maps import FakeArrayMemory, FakeObjects
from tests.unit.agent.policy.test_reconciler import ALLOW, DENY, WEB, port

OLD: dict[int, Entries] = {1: {port(): ALLOW}, 2: {port(80, 300): ALLOW, port(80, 301): ALLOW}}
NEW: dict[int, Entries] = {1: {port(): DENY, port(81): ALLOW}, 2: {port(8080, 300): ALLOW, port(80, 301): ALLOW}}


def open_maps(objects: FakeObjects) -> PolicyMaps:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ArrayMemory", FakeArrayMemory)
        patch.setattr(change, "ArrayMemory", FakeArrayMemory)
        return PolicyMaps(objects.loaded)


@pytest.fixture
def objects() -> FakeObjects:
    return FakeObjects(cilia_policy_slots=8, cilia_policy=20)


def realised(maps: PolicyMaps) -> dict[int, RealisedPolicy]:
    return {slot: found.realised for slot, found in maps.read().items()}


def steps(maps: PolicyMaps, desired: dict[int, Entries]) -> list[Instruction]:
    """Return the instructions from what the maps hold to what is desired, without grace periods."""
    held = realised(maps)
    changes = [Change(slot, Identity(slot), held.get(slot, UNREALISED), entries) for slot, entries in desired.items()]
    made = plan(changes, policy_epoch=maps.policy_epoch, free=1000)
    return [step for step in made.visible + made.cleanup if not isinstance(step, AwaitGracePeriod)]


def in_force(maps: PolicyMaps) -> dict[int, Entries]:
    return {slot: maps.read_entries(slot) for slot in OLD}


def test_what_was_realised_is_read_back_by_a_successor(objects: FakeObjects) -> None:
    maps = open_maps(objects)
    maps.perform(steps(maps, OLD))
    assert in_force(maps) == OLD
    assert {slot: state.entries for slot, state in realised(open_maps(objects)).items()} == OLD


@pytest.mark.parametrize("survived", range(12))
def test_after_death_at_any_instruction_the_policy_is_the_old_or_the_new_and_the_successor_finishes(
    objects: FakeObjects, survived: int
) -> None:
    maps = open_maps(objects)
    maps.perform(steps(maps, OLD))
    maps.perform(steps(maps, NEW)[:survived])
    assert in_force(maps) in (OLD, NEW)
    successor = open_maps(objects)
    assert {slot: state.entries for slot, state in realised(successor).items()} in (OLD, NEW)
    successor.perform(steps(successor, NEW))
    assert in_force(successor) == NEW
    assert not any(state.leftover for state in realised(successor).values())


def test_a_slot_is_read_with_its_identity_and_a_pending_switch(objects: FakeObjects) -> None:
    maps = open_maps(objects)
    maps.perform(steps(maps, OLD))
    maps.perform([StoreIdentity(1, WEB)])
    (current, following, policy_epoch, identity) = (
        getattr(maps.read_slot(1), name) for name in ("current", "next", "policy_epoch", "identity")
    )
    assert (current.revision, following, policy_epoch, identity) == (1, Version(), 0, WEB)
    prepared = steps(maps, NEW)
    maps.perform(prepared[: next(at for at, each in enumerate(prepared) if type(each).__name__ == "StorePolicyEpoch")])
    assert maps.read_slot(1).policy_epoch == maps.policy_epoch + 1
    assert maps.read_slot(1).next.revision == 2


def test_a_slot_that_was_released_keeps_its_revision_for_the_next_identity(objects: FakeObjects) -> None:
    maps = open_maps(objects)
    maps.perform(steps(maps, OLD))
    gone = plan_release(1, realised(maps)[1])
    maps.perform(step for step in gone.visible + gone.cleanup if not isinstance(step, AwaitGracePeriod))
    left = maps.read()[1]
    assert (left.identity, left.realised) == (0, RealisedPolicy(Version(2, 1), {}))


def test_entries_without_room_are_refused(objects: FakeObjects) -> None:
    maps = open_maps(objects)
    with pytest.raises(MapFull):
        maps.perform([PutEntries(1, 0, {port(number): ALLOW for number in range(21)})])


def test_grace_periods_are_not_for_the_maps(objects: FakeObjects) -> None:
    with pytest.raises(ValueError, match="worker thread"):
        open_maps(objects).perform([AwaitGracePeriod()])


def test_every_change_is_counted_so_that_no_denial_outlives_it(objects: FakeObjects) -> None:
    policy = open_maps(objects)
    count = FakeArrayMemory(objects.map(maps.CHANGE))
    policy.perform([PutEntries(1, 0, {port(): ALLOW})])
    assert count.load_u32(0) == ChangePart.DONE
    too_many = {port(number): ALLOW for number in range(1, 30)}
    with pytest.raises(MapFull):
        policy.perform([StoreVersion(1, Version(2)), PutEntries(1, 1, too_many)])
    assert count.load_u32(0) == 2 * ChangePart.DONE


keys = st.builds(
    lambda egress, identity, protocol, number, bits: PolicyKey(
        egress, Identity(identity), protocol, number if protocol else 0, bits if protocol else 0
    ),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.sampled_from((0, 1, 6, 17)),
    st.integers(0, 65535),
    st.integers(0, 16),
)
entries = st.builds(
    lambda deny, precedence, cookie, audit, is_member: PolicyEntry(
        deny, precedence, 0 if is_member else cookie, audit, cookie if is_member else 0
    ),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**32 - 1),
    st.booleans(),
    st.booleans(),
)


@given(st.dictionaries(keys, entries, max_size=20), st.integers(0, 1))
def test_any_entries_are_read_as_they_were_written(wanted: dict[PolicyKey, PolicyEntry], entry_set: int) -> None:
    maps = open_maps(FakeObjects(cilia_policy_slots=8, cilia_policy=20))
    maps.perform([PutEntries(5, entry_set, wanted)])
    assert maps.read_sets() == ({(5, entry_set): wanted} if wanted else {})


@given(
    st.builds(
        Version,
        st.integers(0, 2**32 - 1),
        st.integers(0, 1),
        st.integers(0, 2**18 - 1),
        st.booleans(),
        st.integers(0, 3),
    )
)
def test_any_version_is_read_as_it_was_stored(version: Version) -> None:
    maps = open_maps(FakeObjects(cilia_policy_slots=8))
    maps.perform([StoreVersion(3, version)])
    assert maps.read_slot(3).current == version
