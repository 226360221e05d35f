"""Drift of the policy maps: what somebody else wrote is described and mended."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.errors import MapFull
from services.agent.drift.reporter import Drift
from services.agent.policy.drift import PolicyDrift, plan_repair
from services.agent.policy.instructions import Instruction, RealisedPolicy, Version, named_only_of, shapes_of
from services.agent.policy.maps import PolicySlot, Sets
from tests.unit.agent.policy.fake_maps import FakePolicyMaps
from tests.unit.agent.policy.test_reconciler import ALLOW, DENY, WEB, Agent, left, many, port

VERSION = Version(3, 0, 1 << 17, named_only=0b10)
OWN = RealisedPolicy(VERSION, {port(): ALLOW}, frozenset({port(99)}))
SETS: Sets = {(1, 0): {port(): ALLOW}, (1, 1): {port(99): DENY}}
SLOT = PolicySlot(VERSION, Version(), 0, WEB)


def repaired(sets: Sets = SETS, slot: PolicySlot = SLOT) -> tuple[str, ...]:
    return plan_repair(1, OWN, slot, sets, owner=WEB).differences


def test_a_slot_as_it_was_written_needs_no_repair() -> None:
    assert repaired() == ()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({}, "was missing, not PolicyEntry"),
        ({(1, 0): {port(): DENY}}, "was PolicyEntry(deny=True"),
        ({(1, 0): {port(): ALLOW, port(81): ALLOW}}, "not missing"),
        ({(1, 0): {port(): ALLOW}, (1, 1): {port(82): ALLOW}}, "not missing"),
    ],
)
def test_changed_missing_foreign_and_stray_entries_are_each_described(sets: Sets, said: str) -> None:
    (difference,) = repaired(sets)
    assert said in difference


def test_an_entry_left_over_in_the_other_set_that_went_is_no_difference() -> None:
    assert repaired({(1, 0): {port(): ALLOW}}) == ()


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        (PolicySlot(Version(3, 1, 1 << 17), Version(), 0, WEB), "its version was Version(revision=3, set=1"),
        (PolicySlot(VERSION, Version(9, 1), 7, WEB), "it had a next version"),
        (PolicySlot(VERSION, Version(), 0, Identity(4242)), "its identity was 4242, not 300"),
    ],
)
def test_the_words_of_a_slot_are_described(slot: PolicySlot, said: str) -> None:
    (difference,) = repaired(slot=slot)
    assert difference.startswith(said)


def test_a_repair_raises_the_revision_above_all_that_programs_may_have_seen() -> None:
    forged = PolicySlot(Version(40, 0, 1), Version(50, 1, 1), 7, WEB)
    assert plan_repair(1, OWN, forged, SETS, owner=WEB).realised.version.revision == 51


keys = st.builds(port, st.integers(80, 83), st.integers(0, 1))
entries = st.dictionaries(keys, st.sampled_from((ALLOW, DENY)), max_size=4)
versions = st.builds(Version, st.integers(0, 9), st.integers(0, 1), st.integers(0, 3))


@settings(max_examples=150, deadline=None)
@given(entries, entries, entries, versions, versions, st.integers(0, 9), st.sampled_from((0, 300, 4242)))
def test_whatever_somebody_wrote_the_slot_ends_as_it_was_realised(
    wanted: dict[PolicyKey, PolicyEntry],
    found: dict[PolicyKey, PolicyEntry],
    stray: dict[PolicyKey, PolicyEntry],
    current: Version,
    following: Version,
    policy_epoch: int,
    identity: int,
) -> None:
    own = RealisedPolicy(Version(3, 0, shapes_of(wanted), named_only=named_only_of(wanted)), wanted)
    maps = FakePolicyMaps({1: (WEB, own)})
    maps.kernel.entries = {(1, 0): dict(found), (1, 1): dict(stray)}
    word = maps.kernel.words[1]
    word.current, word.next, word.policy_epoch = current, following, policy_epoch
    maps.identities[1] = Identity(identity)
    repair = plan_repair(1, own, maps.read_slot(1), maps.read_sets(), owner=WEB)
    maps.perform(repair.instructions)
    assert maps.read_sets() == ({(1, 0): wanted} if wanted else {})
    assert maps.read_slot(1) == PolicySlot(repair.realised.version, following, 0, WEB)
    again = plan_repair(1, repair.realised, maps.read_slot(1), maps.read_sets(), owner=WEB)
    assert again.differences == ()


class Looker:
    """Drift of an agent over the model kernel, and somebody who writes while it reads."""

    def __init__(self) -> None:
        self.agent = Agent(FakePolicyMaps({1: (WEB, left({port(): ALLOW}))}))
        self.during: Callable[[], None] = lambda: None
        self.drift = PolicyDrift(self.agent.maps.maps, self.agent.reconciler, self._read)

    async def _read(self) -> Sets:
        sets = self.agent.maps.read_sets()
        self.during()
        return sets


async def test_a_look_mends_what_it_finds_and_the_next_finds_nothing() -> None:
    looker = Looker()
    kernel = looker.agent.maps.kernel
    kernel.entries[1, 0] = {port(): DENY, port(81): ALLOW}
    (drift,) = await looker.drift.look()
    assert (drift.part, len(drift.differences)) == ("policy of slot 1", 2)
    assert looker.agent.maps.in_force(1) == {port(): ALLOW}
    assert await looker.drift.look() == []


async def test_a_slot_that_nobody_owns_is_emptied() -> None:
    looker = Looker()
    looker.agent.maps.kernel.entries[5, 0] = many(2)  # type: ignore[assignment]
    assert [drift.part for drift in await looker.drift.look()] == ["policy of slot 5"]
    assert looker.agent.maps.kernel.count() == 1


async def test_a_slot_that_we_change_ourselves_meanwhile_is_left_to_the_next_look() -> None:
    looker = Looker()
    looker.agent.maps.kernel.entries[1, 0] = {port(): DENY}
    looker.during = lambda: looker.agent.reconciler.repaired(1, left({port(): DENY}))
    assert await looker.drift.look() == []


async def test_a_slot_that_is_being_cleaned_up_is_left_alone() -> None:
    looker = Looker()
    looker.agent.maps.kernel.entries[1, 0] = {port(): DENY}
    looker.agent.reconciler.cleanups.add([1], [], lambda: None)
    assert await looker.drift.look() == []


async def test_a_repair_without_room_is_said_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looker = Looker()
    maps, perform = looker.agent.maps, looker.agent.maps.perform
    maps.kernel.entries[1, 0] = {}
    maps.kernel.entries[5, 0] = {port(): ALLOW}

    def refuse_entries(instructions: tuple[Instruction, ...]) -> None:
        if any(getattr(each, "slot", 0) == 1 for each in instructions):
            raise MapFull("cilia_policy", 10, 7, key=b"", done=0)
        perform(instructions)

    monkeypatch.setattr(maps, "perform", refuse_entries)
    assert [drift.part for drift in await looker.drift.look()] == ["policy of slot 5"]
    assert "the policy of slot 1 can't be repaired yet" in caplog.text
    monkeypatch.setattr(maps, "perform", perform)
    (drift,) = await looker.drift.look()
    assert drift == Drift("policy of slot 1", (f"{port()} was missing, not {ALLOW}",))
