"""The owner's changelog: rows, recent changes, and what is still to be published."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.distribution import Beacon, Delta
from cilia.contracts.tables import Table
from cilia.table.changelog import Changelog

NUMBERS = Table[int, int]("numbers", "tests", int, int, lambda key: str(key % 10))


def leading(log_limit: int = 100, **rows: int) -> Changelog[int, int]:
    made = Changelog(NUMBERS, log_limit=log_limit)
    made.reset({int(key[1:]): row for key, row in rows.items()}, 5, 1)
    made.lead(5)
    return made


def deltas(changelog: Changelog[int, int]) -> dict[str, Delta[int, int]]:
    return {each.shard: each.delta for each in changelog.take_pending()}


def test_a_change_is_one_delta_for_each_of_its_shards() -> None:
    changelog = leading(k1=10, k2=20)
    changelog.commit(6, {1: 11, 11: 110}, [2], traceparent="00-a-b-01")
    outgoing = {each.shard: each for each in changelog.take_pending()}
    assert outgoing["1"].delta == Delta(1, 5, 6, ((1, 11), (11, 110)))
    assert outgoing["2"].delta == Delta(1, 5, 6, (), (2,))
    assert outgoing["1"].traceparent == "00-a-b-01"
    assert changelog.rows == {"1": {1: 11, 11: 110}}
    assert not changelog.has_pending


def test_changes_that_pile_up_leave_as_one_delta_with_the_newest_trace() -> None:
    changelog = leading(k1=10)
    changelog.commit(6, {1: 11}, traceparent="first")
    changelog.commit(7, {1: 12, 21: 1}, traceparent="second")
    changelog.commit(8, {}, [21])
    [only] = changelog.take_pending()
    assert only.delta == Delta(1, 5, 8, ((1, 12),), (21,))
    assert only.traceparent == "second"


def test_the_next_delta_of_a_shard_follows_the_one_before() -> None:
    changelog = leading()
    changelog.commit(6, {1: 1})
    assert deltas(changelog)["1"].previous == 5
    changelog.commit(7, {2: 2})
    changelog.commit(9, {1: 9})
    found = deltas(changelog)
    assert (found["1"].previous, found["1"].sequence) == (6, 9)
    assert (found["2"].previous, found["2"].sequence) == (5, 9)


def test_a_sequence_that_is_not_newer_is_part_of_the_state_already() -> None:
    changelog = leading(k1=10)
    changelog.commit(5, {1: 99})
    changelog.commit(4, {1: 98})
    assert changelog.rows["1"] == {1: 10}
    assert not changelog.has_pending


def test_without_changes_a_commit_only_moves_the_sequence() -> None:
    changelog = leading(k1=10)
    version = changelog.version("1")
    changelog.commit(9, {})
    assert (changelog.sequence, changelog.has_pending, changelog.version("1")) == (9, False, version)
    assert changelog.beacon(0) == Beacon(1, 5, 9)


def test_shards_of_one_act_are_marked_and_a_lone_one_is_not() -> None:
    changelog = leading()
    changelog.commit(6, {1: 1, 2: 2}, together=True)
    assert all(delta.together for delta in deltas(changelog).values())
    changelog.commit(7, {1: 3}, together=True)
    assert not deltas(changelog)["1"].together
    changelog.commit(8, {1: 1, 2: 1})
    assert not any(delta.together for delta in deltas(changelog).values()), "the mark is of one batch only"


def test_who_follows_has_nothing_pending_and_leads_on_with_what_the_last_leader_may_not_have_sent() -> None:
    changelog = leading()
    changelog.commit(6, {1: 1})
    changelog.follow()
    assert not changelog.has_pending
    changelog.commit(7, {2: 2})
    assert not changelog.has_pending
    changelog.lead(6)
    assert deltas(changelog) == {"2": Delta(1, 5, 7, ((2, 2),))}
    changelog.lead(0)
    assert deltas(changelog).keys() == {"1", "2"}


def test_changes_since_a_sequence_are_told_as_far_as_the_log_reaches() -> None:
    changelog = leading(log_limit=3)
    for sequence in range(6, 11):
        changelog.commit(sequence, {1: sequence})
    assert changelog.log_start == 7
    assert changelog.changes("1", 8) == {1: 10}
    assert changelog.changes("1", 7) == {1: 10}
    assert changelog.changes("1", 6) is None
    assert changelog.changes("2", 7) == {}


def test_a_change_of_many_rows_is_forgotten_row_by_row_but_never_told_in_part() -> None:
    changelog = leading(log_limit=3)
    changelog.commit(6, {1: 1, 2: 2, 3: 3})
    changelog.commit(7, {4: 4})
    assert changelog.changes("2", 5) is None
    assert changelog.changes("2", 6) == {}


def test_a_removed_row_is_told_as_removed() -> None:
    changelog = leading(k1=10)
    changelog.commit(6, {}, [1])
    assert changelog.changes("1", 5) == {1: None}
    assert changelog.rows == {}


def test_shards_are_told_by_their_newest_change_the_newest_first() -> None:
    changelog = leading()
    for sequence, key in enumerate((1, 2, 1, 3), 6):
        changelog.commit(sequence, {key: sequence})
    assert list(changelog.shards_since(5)) == [("3", 9), ("1", 8), ("2", 7)]
    assert list(changelog.shards_since(7)) == [("3", 9), ("1", 8)]
    assert changelog.beacon(7) == Beacon(1, 7, 9, {"3": 9, "1": 8})


def test_a_beacon_reaches_back_no_further_than_the_log() -> None:
    changelog = leading(log_limit=1)
    for sequence in range(6, 9):
        changelog.commit(sequence, {1: sequence})
    assert changelog.beacon(0).since == changelog.log_start == 7


def test_a_state_of_the_same_epoch_is_a_commit_of_the_differences() -> None:
    changelog = leading(k1=10, k2=20, k3=30)
    changelog.reset({1: 10, 2: 21}, 9, 1)
    assert deltas(changelog) == {"2": Delta(1, 5, 9, ((2, 21),)), "3": Delta(1, 5, 9, (), (3,))}


def test_a_new_epoch_starts_anew_and_an_older_state_is_ignored() -> None:
    changelog = leading(k1=10)
    changelog.commit(6, {1: 11})
    changelog.reset({2: 20}, 3, 2)
    assert (changelog.epoch, changelog.sequence, changelog.log_start) == (2, 3, 3)
    assert (changelog.rows, changelog.has_pending) == ({"2": {2: 20}}, False)
    changelog.reset({1: 1}, 99, 1)
    assert changelog.rows == {"2": {2: 20}}


def test_rows_that_somebody_else_computes_are_not_copied_and_a_reset_is_a_new_history_of_them() -> None:
    rows = {"1": {1: 10}}
    changelog = Changelog(NUMBERS, computed=rows)
    changelog.reset({}, 5, 1)
    changelog.lead(5)
    assert changelog.rows is rows
    rows["1"][1] = 11
    changelog.commit(6, {1: 11})
    assert deltas(changelog) == {"1": Delta(1, 5, 6, ((1, 11),))}
    changelog.reset({}, 9, 1)
    assert changelog.changes("1", 6) is None


def test_a_version_names_the_content_of_a_shard() -> None:
    changelog = leading(k1=10, k2=20)
    before = changelog.version("1"), changelog.version("2")
    changelog.commit(6, {1: 11})
    assert changelog.version("1") != before[0]
    assert changelog.version("2") == before[1]
    changelog.reset({1: 10}, 5, 2)
    assert changelog.version("1") not in (before[0], (1, 6))


def test_pruning_forgets_shards_of_before_the_log_only() -> None:
    changelog = leading(log_limit=2)
    for sequence, key in enumerate((1, 2, 3), 6):
        changelog.commit(sequence, {key: sequence})
    deltas(changelog)
    changelog.prune()
    assert list(changelog.shards_since(0)) == [("3", 8), ("2", 7)]
    changelog.commit(9, {1: 9})
    assert deltas(changelog)["1"].previous == 6, "it reaches back over the log again"


COMMITS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 30), st.integers(0, 3), max_size=4), st.sets(st.integers(0, 30), max_size=3)
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(COMMITS, st.integers(0, 20), st.integers(1, 4))
def test_changes_since_any_sequence_lead_from_its_rows_to_those_of_now(
    commits: list[tuple[dict[int, int], set[int]]], log_limit: int, publish_every: int
) -> None:
    changelog = Changelog(NUMBERS, log_limit=log_limit)
    changelog.reset({}, 1, 1)
    changelog.lead(1)
    states, published = {1: dict[int, int]()}, dict[int, int]()
    for sequence, (upserts, removes) in enumerate(commits, 2):
        changelog.commit(sequence, upserts, removes - upserts.keys())
        states[sequence] = {k: v for k, v in states[sequence - 1].items() if k not in removes} | upserts
        if sequence % publish_every == 0:
            for each in changelog.take_pending():
                published |= dict(each.delta.upserts)
                for key in each.delta.removes:
                    published.pop(key, None)
            assert published == states[sequence]
    now = states[changelog.sequence]
    assert {key: row for rows in changelog.rows.values() for key, row in rows.items()} == now
    for since, before in states.items():
        state, told = dict(before), [changelog.changes(str(shard), since) for shard in range(10)]
        if since < changelog.log_start:
            assert told == [None] * 10
            continue
        for changes in told:
            assert changes is not None
            for key, row in changes.items():
                state.pop(key, None)
                if row is not None:
                    state[key] = row
        assert state == now
