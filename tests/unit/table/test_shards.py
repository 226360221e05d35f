"""All shards of a table that a subscriber wants: what is stale, and by which request it comes."""

from cilia.contracts.distribution import Beacon, Delta, SnapshotRequest
from cilia.contracts.subjects import EVERY_SHARD
from cilia.contracts.tables import Table
from cilia.table.shard import Snapshot
from cilia.table.shards import REQUEST_EVERY, ResyncReason, SubscribedShards

NUMBERS = Table[int, int]("numbers", "tests", int, int, lambda key: str(key % 100))


def chosen(*shards: str) -> SubscribedShards[int, int]:
    made = SubscribedShards(NUMBERS, every=False)
    for shard in shards:
        made.add(shard)
    return made


def whole(epoch: int, sequence: int, **rows: int) -> Snapshot[int, int]:
    return Snapshot(epoch, sequence, 0, {int(key[1:]): row for key, row in rows.items()})


def test_a_new_shard_is_requested_whole_and_complete_once_it_came() -> None:
    shards = chosen("1", "2")
    assert shards.stale() == {"1": ResyncReason.NEW, "2": ResyncReason.NEW}
    assert shards.request("1") == SnapshotRequest()
    shards.feed_snapshot("1", whole(1, 5, k1=10))
    assert not shards.complete
    assert shards.stale() == {"2": ResyncReason.NEW}
    assert (shards.sequence("1"), shards.sequence("2")) == (5, 0)
    shards.feed_snapshot("2", whole(1, 6))
    assert shards.complete
    assert shards.stale() == {}


def test_a_gap_is_requested_since_what_is_known_and_at_least_as_new_as_what_was_heard() -> None:
    shards = chosen("1")
    shards.feed_snapshot("1", whole(3, 5))
    shards.feed_delta("1", Delta(3, 7, 8, ((1, 1),)))
    assert shards.stale() == {"1": ResyncReason.GAP}
    assert shards.request("1") == SnapshotRequest(3, 5, 8)


def test_a_suspicion_hurries_least_and_ends_with_a_beacon() -> None:
    shards = chosen("1", "2")
    for shard in ("1", "2"):
        shards.feed_snapshot(shard, whole(1, 5))
    shards.suspect_loss()
    assert set(shards.stale().values()) == {ResyncReason.SUSPECT}
    shards.feed_beacon(Beacon(1, 5, 9, {"2": 8}))
    assert shards.stale() == {"2": ResyncReason.GAP}
    assert shards.sequence("1") == 9


def test_shards_that_nobody_wants_are_not_kept() -> None:
    shards = chosen("1")
    assert shards.feed_delta("2", Delta(1, 5, 6, ((2, 2),))) == []
    assert shards.feed_snapshot("2", whole(1, 5, k2=1)) == []
    assert list(shards.shards) == ["1"]
    assert shards.drop("2") is None


def test_a_shard_that_is_dropped_gives_its_rows_back() -> None:
    shards = chosen("1")
    shards.feed_snapshot("1", whole(1, 5, k1=1, k101=2))
    gone = shards.drop("1")
    assert gone is not None
    assert gone.removes == {1, 101}
    assert shards.stale() == {}


def test_who_wants_every_shard_asks_once_for_all() -> None:
    shards = SubscribedShards(NUMBERS, every=True)
    assert shards.stale() == {EVERY_SHARD: ResyncReason.NEW}
    changes = shards.feed_snapshot(EVERY_SHARD, whole(1, 5, k1=10, k2=20, k101=30))
    assert {change.shard: dict(change.upserts) for change in changes} == {"1": {1: 10, 101: 30}, "2": {2: 20}}
    assert shards.complete
    assert shards.stale() == {}
    assert shards.sequence("77") == 5, "a shard that was never heard of is empty at that sequence"


def test_a_shard_that_is_first_heard_of_begins_where_the_rest_stands() -> None:
    shards = SubscribedShards(NUMBERS, every=True)
    shards.feed_snapshot(EVERY_SHARD, whole(1, 5))
    [change] = shards.feed_delta("7", Delta(1, 4, 6, ((7, 70),)))
    assert change.upserts == {7: 70}
    shards.feed_beacon(Beacon(1, 5, 9, {"8": 8}))
    assert shards.stale() == {"8": ResyncReason.GAP}
    assert shards.request("8") == SnapshotRequest(1, 5, 8)


def test_changes_of_every_shard_reach_each_and_the_rest() -> None:
    shards = SubscribedShards(NUMBERS, every=True)
    shards.feed_snapshot(EVERY_SHARD, whole(1, 5, k1=10, k2=20))
    shards.feed_snapshot(EVERY_SHARD, Snapshot(1, 9, 5, {3: 30, 1: 11}, (2,)))
    assert {name: shard.rows for name, shard in shards.shards.items()} == {"1": {1: 11}, "2": {}, "3": {3: 30}}
    assert {shard.sequence for shard in shards.shards.values()} == {9}
    assert shards.sequence("77") == 9


def test_many_stale_shards_are_one_request() -> None:
    shards = SubscribedShards(NUMBERS, every=True)
    shards.feed_snapshot(EVERY_SHARD, whole(1, 5))
    shards.feed_beacon(Beacon(1, 5, 9, {str(shard): 7 for shard in range(REQUEST_EVERY)}))
    assert len(shards.stale()) == REQUEST_EVERY
    shards.feed_beacon(Beacon(1, 5, 12, {str(shard): 11 for shard in range(REQUEST_EVERY + 1)}))
    assert shards.stale() == {EVERY_SHARD: ResyncReason.GAP}
    assert shards.request(EVERY_SHARD).since == 5


def test_shards_of_two_epochs_are_requested_whole() -> None:
    shards = SubscribedShards(NUMBERS, every=True)
    shards.feed_snapshot(EVERY_SHARD, whole(1, 5, k1=1, k2=2))
    shards.feed_snapshot("1", whole(2, 3, k1=1))
    assert shards.request(EVERY_SHARD).since == 0
