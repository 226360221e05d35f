"""Schedule of snapshot requests: when, how many at once, and when again."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.table.resync import (
    CHUNK_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MAX_IN_FLIGHT,
    NEXT_BEACON_SECONDS,
    SPREAD_SECONDS,
    ResyncSchedule,
)
from cilia.table.shards import ResyncReason

NEW, GAP, SUSPECT = ResyncReason


class Latest(Random):
    """Randomness that is always the greatest."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def schedule() -> ResyncSchedule:
    return ResyncSchedule(Latest(1))


def test_what_is_new_is_requested_at_once() -> None:
    assert schedule().choose({"a": NEW}, 10.0) == ["a"]


@pytest.mark.parametrize(
    ("reason", "latest"), [(GAP, SPREAD_SECONDS[GAP]), (SUSPECT, NEXT_BEACON_SECONDS + SPREAD_SECONDS[SUSPECT])]
)
def test_other_reasons_leave_time_for_what_may_spare_the_request(reason: ResyncReason, latest: float) -> None:
    some = schedule()
    assert some.choose({"a": reason}, 10.0) == []
    assert some.next_time() == pytest.approx(10.0 + latest)
    assert some.choose({"a": reason}, 10.0 + latest - 0.01) == []
    assert some.choose({"a": reason}, 10.0 + latest) == ["a"]


def test_a_request_is_in_flight_until_its_answer_settles_it() -> None:
    some = schedule()
    some.choose({"a": NEW}, 0.0)
    assert some.choose({"a": NEW}, 1.0) == []
    assert some.next_time() == CHUNK_SECONDS
    assert some.choose({}, 1.0) == []
    assert some.next_time() is None
    assert some.choose({"a": NEW}, 1.0) == ["a"], "a new reason is a new request"


def test_silence_fails_a_request_and_each_chunk_gives_it_more_time() -> None:
    some = schedule()
    some.choose({"a": NEW}, 0.0)
    some.progress("a", 2.0)
    assert some.choose({"a": NEW}, CHUNK_SECONDS + 1.9) == []
    assert some.next_time() == 2.0 + CHUNK_SECONDS
    assert some.choose({"a": NEW}, CHUNK_SECONDS + 2.0) == []
    assert some.choose({"a": NEW}, CHUNK_SECONDS + 2.1) == ["a"], "after the first pause"


def test_each_failure_doubles_the_pause_up_to_the_longest() -> None:
    some, now, pauses = schedule(), 0.0, []
    for _ in range(10):
        assert some.choose({"a": NEW}, now) == ["a"]
        some.fail("a", now)
        due = some.next_time()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS)


def test_failures_of_what_is_not_requested_mean_nothing() -> None:
    some = schedule()
    some.fail("a", 0.0)
    some.progress("a", 0.0)
    assert some.next_time() is None


def test_few_are_in_flight_and_the_next_follow_as_they_end() -> None:
    some = schedule()
    stale = {str(number): NEW for number in range(MAX_IN_FLIGHT + 3)}
    assert len(some.choose(stale, 0.0)) == MAX_IN_FLIGHT
    assert some.choose(stale, 0.5) == []
    assert some.next_time() == CHUNK_SECONDS, "nothing can begin before"
    for done in ("0", "1"):
        del stale[done]
    assert some.choose(stale, 0.6) == [str(MAX_IN_FLIGHT), str(MAX_IN_FLIGHT + 1)]


@settings(max_examples=200)
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.sampled_from(["choose", "fail", "progress", "settle"]), st.integers(0, 12), st.floats(0, 2))),
)
def test_whatever_happens_every_stale_shard_is_requested_in_the_end(
    seed: int, steps: list[tuple[str, int, float]]
) -> None:
    some, now = ResyncSchedule(Random(seed)), 0.0
    stale = {str(number): ResyncReason(number % 3 + 1) for number in range(12)}
    for act, number, seconds in steps:
        now += seconds
        shard = str(number)
        match act:
            case "choose":
                assert len(some.choose(stale, now)) <= MAX_IN_FLIGHT
            case "fail":
                some.fail(shard, now)
            case "progress":
                some.progress(shard, now)
            case "settle":
                stale.pop(shard, None)
    wanted = set(stale)
    for _ in range(1000):
        for shard in some.choose(stale, now):
            stale.pop(shard)
        due = some.next_time()
        if due is None:
            break
        now = max(now, due)
    assert not stale, f"{stale} of {wanted} were never requested"
