from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from services.agent.policy.instructions import (
    UNREALISED,
    DeleteEntries,
    Entries,
    PutEntries,
    RealisedPolicy,
    StoreVersion,
    Version,
    named_only_of,
    shape_of,
    shapes_of,
)
from services.agent.policy.plan import Change, inherit, is_churn, plan

ALLOW = PolicyEntry(deny=False, precedence=1)
DENY = PolicyEntry(deny=True, precedence=2)


def port(identity: int, number: int = 80, *, egress: bool = False) -> PolicyKey:
    return PolicyKey(egress, Identity(identity), 6, number, 16)


def realised(entries: Entries, revision: int = 3) -> RealisedPolicy:
    return RealisedPolicy(Version(revision, 0, shapes_of(entries), named_only=named_only_of(entries)), entries)


def change(before: RealisedPolicy, desired: Entries, slot: int = 1) -> Change:
    return Change(slot, Identity(1000 + slot), before, desired)


def test_shapes_follow_the_map_header() -> None:
    assert shape_of(PolicyKey(False, Identity(0), 0, 0, 0)) == 0
    assert shape_of(PolicyKey(False, Identity(0), 6, 0, 0)) == 1
    assert shape_of(port(0)) == 17


def test_a_first_realisation_writes_the_entries_before_the_word() -> None:
    steps = plan([change(UNREALISED, {port(0): ALLOW})], policy_epoch=0, free=10)
    assert steps.visible == (
        PutEntries(1, 1, {port(0): ALLOW}),
        StoreVersion(1, Version(1, 1, 1 << 17, named_only=0b10)),
    )
    assert steps.cleanup == ()


def test_an_unrealised_subject_without_entries_is_realised_as_deny_all() -> None:
    steps = plan([change(UNREALISED, {})], policy_epoch=0, free=0)
    assert steps.visible == (StoreVersion(1, Version(1, 1, 0, named_only=0b11)),)


def test_a_new_peer_is_added_in_place_without_a_new_revision() -> None:
    old = {port(300): ALLOW}
    steps = plan([change(realised(old), {**old, port(301): ALLOW})], policy_epoch=0, free=10)
    assert steps.visible == (PutEntries(1, 0, {port(301): ALLOW}),)
    assert steps.after[1].version.revision == 3


def test_a_peer_that_leaves_is_removed_in_place_and_flows_are_decided_again() -> None:
    old = {port(300): ALLOW, port(301): ALLOW}
    steps = plan([change(realised(old), {port(300): ALLOW})], policy_epoch=0, free=0)
    assert steps.visible == (
        DeleteEntries(1, 0, frozenset({port(301)})),
        StoreVersion(1, Version(4, 0, 1 << 17, named_only=0b11)),
    )


def test_another_port_for_a_known_peer_is_a_change_of_rules() -> None:
    assert not is_churn({port(300): ALLOW}, {port(300): ALLOW, port(300, 81): ALLOW})


def test_a_deny_for_any_peer_forbids_changes_in_place() -> None:
    assert not is_churn({port(0): DENY}, {port(0): DENY, port(300): ALLOW})


def test_what_is_in_force_already_needs_no_instruction() -> None:
    old = {port(300): ALLOW}
    assert plan([change(realised(old), dict(old))], policy_epoch=0, free=0).visible == ()


def test_a_policy_that_does_not_fit_is_refused_by_name_and_the_others_go_on() -> None:
    steps = plan(
        [change(UNREALISED, {port(0): ALLOW, port(1): ALLOW}), change(UNREALISED, {port(0): ALLOW}, slot=2)],
        policy_epoch=0,
        free=1,
    )
    assert [str(error) for error in steps.refused] == [
        "policy of identity 1001: 2 entries wanted, 1 free in cilia_policy"
    ]
    assert list(steps.after) == [2]


def test_an_identity_that_entries_do_not_know_inherits_those_of_another() -> None:
    entries = {port(9): ALLOW, port(9, 443, egress=True): DENY, port(300): ALLOW, port(5): DENY}
    heirs = {Identity(70): Identity(9), Identity(71): Identity(9), Identity(5): Identity(9), Identity(72): Identity(8)}
    expected = {port(heir): ALLOW for heir in (70, 71)} | {port(heir, 443, egress=True): DENY for heir in (70, 71)}
    assert inherit(entries, heirs) == expected
