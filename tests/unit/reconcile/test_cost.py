"""Cost of a plan's steps, counted in lookups of keys: that of a batch, whatever the table holds."""

from collections.abc import Callable

import pytest

from cilia.reconcile.plan import SLICE, Plan, WriteResult
from tests.unit.reconcile.kernel import new_backoff

MANY = 5 * SLICE
LIMIT = 10
LOOKUPS = 12
"""Most lookups for one object of a step."""


class Key(int):
    """A key that counts how often it is looked up."""

    lookups = 0

    def __hash__(self) -> int:
        Key.lookups += 1
        return int.__hash__(self)

    def __eq__(self, other: object) -> bool:
        return int.__eq__(self, other) is True


def lookups(step: Callable[[], object]) -> int:
    Key.lookups = 0
    step()
    return Key.lookups


def plan_of(desired: dict[Key, str], applied: dict[Key, str]) -> Plan[Key, str]:
    return Plan(desired, applied, new_backoff=new_backoff)


@pytest.fixture(scope="module")
def keys() -> list[Key]:
    return [Key(number) for number in range(MANY)]


def test_a_full_table_in_its_pause_looks_at_removals_alone(keys: list[Key]) -> None:
    desired = dict.fromkeys(keys, "wanted")
    plan = plan_of(desired, {keys[0]: "held"})
    plan.touch(keys)
    batch = plan.take(0.0, LIMIT)
    plan.finish(batch, WriteResult(full="full", left=batch.keys()), 0.0)
    del desired[keys[0]]
    plan.touch(keys[:1])
    assert lookups(lambda: plan.take(0.5, LIMIT)) <= LOOKUPS
    assert plan.applied == {keys[0]: "held"}


def test_refused_objects_that_are_not_due_cost_nothing(keys: list[Key]) -> None:
    plan = plan_of(dict.fromkeys(keys, "wanted"), {})
    plan.touch(keys)
    batch = plan.take(0.0, MANY)
    plan.finish(batch, WriteResult(refused=dict.fromkeys(keys, "no")), 0.0)
    assert plan.refusals == MANY
    assert lookups(lambda: plan.take(0.5, LIMIT)) <= LOOKUPS
    assert lookups(plan.next_retry) <= LOOKUPS
    assert lookups(plan.first_refusal) <= LOOKUPS


def test_objects_that_are_as_they_should_be_are_passed_over_some_at_a_time(keys: list[Key]) -> None:
    entries = dict.fromkeys(keys, "wanted")
    plan = plan_of(entries, dict(entries))
    plan.touch(keys)
    steps = 0
    while plan.pending:
        assert lookups(lambda: plan.take(0.0, LIMIT)) <= LOOKUPS * SLICE
        steps += 1
    assert steps == MANY // SLICE
    assert not plan.has_more


def test_what_concerns_the_whole_table_goes_in_slices(keys: list[Key]) -> None:
    plan = plan_of({}, dict.fromkeys(keys, "held"))
    slices = plan.complete()
    for _ in range(MANY // SLICE):
        assert lookups(lambda: next(slices)) <= LOOKUPS * SLICE
    assert next(slices, None) is None
    assert plan.pending == MANY


def test_a_look_is_compared_in_slices_and_finds_what_differs(keys: list[Key]) -> None:
    half = MANY // 2
    desired = dict.fromkeys(keys, "wanted")
    plan = plan_of(desired, dict(desired))
    assert sum(plan.complete()) == 0
    plan.begin_look()
    found = dict.fromkeys(keys[half:], "wanted") | {Key(MANY): "foreign", keys[-1]: "other"}
    slices, differences = plan.compare(found), 0
    for _ in range(2 * MANY):
        Key.lookups = 0
        some = next(slices, None)
        if some is None:
            break
        assert Key.lookups <= LOOKUPS * SLICE
        differences += len(some)
    assert differences == half + 2
    assert plan.pending == half + 2


def test_a_write_between_two_slices_of_a_comparison_is_no_difference(keys: list[Key]) -> None:
    desired = dict.fromkeys(keys, "wanted")
    plan = plan_of(desired, dict(desired))
    plan.begin_look()
    slices = plan.compare(dict(desired))
    assert next(slices) == {}
    desired[keys[-1]] = "changed"
    plan.touch(keys[-1:])
    batch = plan.take(0.0, LIMIT)
    plan.finish(batch, WriteResult(), 0.0)
    assert all(some == {} for some in slices)
    assert plan.applied[keys[-1]] == "changed"
