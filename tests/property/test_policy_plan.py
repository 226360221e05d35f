"""Every step of a plan leaves each packet its old verdict or its new one."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from services.agent.policy.instructions import UNREALISED, RealisedPolicy, Version, named_only_of, shapes_of
from services.agent.policy.plan import Change, Plan, is_churn, plan, plan_release
from tests.property.examples import examples
from tests.unit.agent.policy.policy_model import Kernel, Packet

SET = 1 << 31 | 1
IDENTITIES = (0, 7, 8, SET)
PACKETS = [
    Packet(egress, identity, protocol, port)
    for egress in (False, True)
    for identity in (7, 8, 9)
    for protocol, port in ((6, 80), (6, 81), (17, 53))
]


def key(egress: bool, identity: int, which: int) -> PolicyKey:
    protocol, port, bits = ((0, 0, 0), (6, 0, 0), (6, 80, 16), (6, 80, 15), (17, 53, 16))[which]
    return PolicyKey(egress, Identity(identity), protocol, port, bits)


keys = st.builds(key, st.booleans(), st.sampled_from(IDENTITIES), st.integers(0, 4))
entries = st.builds(PolicyEntry, st.booleans(), st.integers(0, 3), audit=st.booleans())
plain = st.builds(PolicyEntry, st.just(False), st.integers(0, 3))
members = st.sets(st.tuples(st.booleans(), st.sampled_from((7, 8))), max_size=3)


def with_members(state: dict[PolicyKey, PolicyEntry], members: set[tuple[bool, int]]) -> dict[PolicyKey, PolicyEntry]:
    """Make peers members of the set: a member has no other entry, a set has some of both."""
    realised = {key.egress for key in state if key.identity == SET}
    joined = {(egress, Identity(peer)) for egress, peer in members if egress in realised}
    gone = joined | {(egress, Identity(SET)) for egress in realised - {egress for egress, _ in joined}}
    rows = {PolicyKey(egress, peer, 0, 0, 0): PolicyEntry(False, 0, peer_set=SET) for egress, peer in joined}
    return {key: entry for key, entry in state.items() if (key.egress, key.identity) not in gone} | rows


states = st.builds(
    with_members,
    st.one_of(st.dictionaries(keys, entries, max_size=8), st.dictionaries(keys, plain, max_size=8)),
    members,
)
leftovers = st.frozensets(keys, max_size=3)


@st.composite
def held_and_desired(draw: st.DrawFn) -> tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]]:
    old, leftover = draw(states), draw(leftovers)
    gone = draw(st.sampled_from(IDENTITIES))
    new = draw(st.one_of(states, st.just({k: v for k, v in old.items() if k.identity != gone})))
    if draw(st.booleans()):
        return UNREALISED, new
    version = Version(
        draw(st.integers(1, 5)),
        draw(st.integers(0, 1)),
        shapes_of(old),
        named_only=draw(st.integers(0, 3)) & named_only_of(old),
    )
    return RealisedPolicy(version, old, leftover), new


def changes_of(pairs: list[tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]]]) -> list[Change]:
    return [Change(slot, Identity(1000 + slot), realised, new) for slot, (realised, new) in enumerate(pairs, start=1)]


def verdicts(kernel: Kernel, slot: int) -> list[str]:
    return [kernel.verdict(slot, packet) for packet in PACKETS]


def finished(kernel: Kernel, steps: Plan) -> Kernel:
    for _ in kernel.run(steps.visible + steps.cleanup):
        pass
    return kernel


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(held_and_desired(), min_size=1, max_size=3))
def test_each_packet_meets_its_old_verdict_or_its_new_one(
    pairs: list[tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]]],
) -> None:
    changes = changes_of(pairs)
    start = {change.slot: change.realised for change in changes}
    steps = plan(changes, policy_epoch=4, free=10_000)
    kernel, final = Kernel.holding(start, 4), finished(Kernel.holding(start, 4), steps)
    old = {slot: verdicts(kernel, slot) for slot in start}
    new = {slot: verdicts(final, slot) for slot in start}
    for _ in kernel.run(steps.visible + steps.cleanup):
        for slot in start:
            for seen, before, after in zip(verdicts(kernel, slot), old[slot], new[slot], strict=True):
                assert seen in (before, after)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(held_and_desired(), min_size=2, max_size=3))
def test_subjects_that_switch_do_so_at_one_moment(
    pairs: list[tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]]],
) -> None:
    changes = changes_of(pairs)
    switching = {
        c.slot
        for c in changes
        if c.realised.version.shapes and c.realised.entries != c.desired and not is_churn(c.realised.entries, c.desired)
    }
    steps = plan(changes, policy_epoch=4, free=10_000)
    kernel = Kernel.holding({change.slot: change.realised for change in changes}, 4)
    old = {slot: kernel.version(slot).set for slot in switching}
    for _ in kernel.run(steps.visible + steps.cleanup):
        assert len({kernel.version(slot).set == old[slot] for slot in switching}) <= 1


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(held_and_desired(), min_size=1, max_size=3))
def test_a_finished_plan_holds_what_was_desired_and_nothing_else(
    pairs: list[tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]]],
) -> None:
    changes = changes_of(pairs)
    steps = plan(changes, policy_epoch=4, free=10_000)
    kernel = finished(Kernel.holding({change.slot: change.realised for change in changes}, 4), steps)
    assert kernel.policy_epoch == steps.policy_epoch
    for change in changes:
        realised = steps.after.get(change.slot, change.realised)
        word = kernel.words[change.slot]
        assert word.policy_epoch == 0
        assert word.current == realised.version
        assert kernel.entries.get((change.slot, realised.version.set), {}) == change.desired == realised.entries
        assert kernel.entries.get((change.slot, realised.version.set ^ 1), {}).keys() == realised.leftover


@settings(max_examples=examples(60), deadline=None)
@given(held_and_desired())
def test_a_flow_that_was_allowed_and_no_longer_is_sees_a_higher_revision(
    pair: tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]],
) -> None:
    (change,) = changes_of([pair])
    kernel = Kernel.holding({1: change.realised}, 4)
    old = verdicts(kernel, 1)
    finished(kernel, plan([change], policy_epoch=4, free=10_000))
    if any(before != "deny" and after != before for before, after in zip(old, verdicts(kernel, 1), strict=True)):
        assert kernel.version(1).revision > change.realised.version.revision


@given(held_and_desired())
def test_a_released_slot_denies_all_and_its_revision_still_grows(
    pair: tuple[RealisedPolicy, Mapping[PolicyKey, PolicyEntry]],
) -> None:
    realised, _ = pair
    steps = plan_release(1, realised)
    kernel = finished(Kernel.holding({1: realised}, 4), steps)
    assert set(verdicts(kernel, 1)) == {"deny"}
    assert kernel.version(1).revision > realised.version.revision
    assert kernel.count() == 0
