"""Whatever the network loses, doubles or reorders: once a beacon and a snapshot get through, a
subscriber and the owner agree.
"""

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.distribution import Beacon, Delta, SnapshotChunk, SnapshotRequest
from cilia.contracts.subjects import EVERY_SHARD
from cilia.contracts.tables import Table
from cilia.table.changelog import Changelog
from cilia.table.shard import Change, Snapshot
from cilia.table.shards import SubscribedShards
from cilia.table.snapshots import Snapshots
from cilia.table.wire import encode_delta

NUMBERS = Table[int, int]("numbers", "tests", int, int, lambda key: str(key % 3))
_delta = msgspec.msgpack.Decoder(Delta[int, int])
_chunk = msgspec.msgpack.Decoder(SnapshotChunk[int, int])

Message = tuple[str, bytes] | Beacon


class World:
    """Two replicas of an owner over one history, a network with a will of its own, and a
    subscriber.
    """

    def __init__(self, *, every: bool, log_limit: int) -> None:
        self.epoch, self.sequence = 1, 1
        self.truth: dict[int, int] = {}
        self.past: dict[tuple[int, int], dict[int, int]] = {(1, 1): {}}
        self.replicas = [Changelog(NUMBERS, log_limit=log_limit) for _ in range(2)]
        self.answers = [Snapshots(changelog) for changelog in self.replicas]
        self.unseen: list[list[tuple[int, int, int | None]]] = [[], []]
        self.network: list[Message] = []
        self.shards = SubscribedShards(NUMBERS, every=every)
        self.followed: dict[str, dict[int, int]] = {}
        self.positions: dict[str, tuple[int, int]] = {}
        for replica in self.replicas:
            replica.reset({}, 1, 1)
        self.replicas[0].lead(0)
        if not every:
            for shard in ("0", "1", "2"):
                self.shards.add(shard)

    def change(self, key: int, value: int | None) -> None:
        self.sequence += 1
        if value is None:
            self.truth.pop(key, None)
        else:
            self.truth[key] = value
        self.past[self.epoch, self.sequence] = dict(self.truth)
        for unseen in self.unseen:
            unseen.append((self.sequence, key, value))

    def new_epoch(self) -> None:
        self.epoch += 1
        self.sequence = max(1, self.sequence - 3)
        self.past[self.epoch, self.sequence] = dict(self.truth)
        self.unseen = [[], []]
        for replica in self.replicas:
            replica.reset(self.truth, self.sequence, self.epoch)

    def see(self, which: int, count: int) -> None:
        """Let a replica catch up by ``count`` changes of the history."""
        for sequence, key, value in self.unseen[which][:count]:
            upserts = {} if value is None else {key: value}
            self.replicas[which].commit(sequence, upserts, [key] if value is None else [])
        del self.unseen[which][:count]

    def publish(self, which: int) -> None:
        for each in self.replicas[which].take_pending():
            self.network += [(each.shard, payload) for payload in encode_delta(each.delta)]

    def beacon(self, which: int, since: int) -> None:
        if self.replicas[which].leading:
            self.network.append(self.replicas[which].beacon(max(0, self.replicas[which].sequence - since)))

    def deliver(self, at: int, *, keep: bool) -> None:
        if not self.network:
            return
        message = self.network[at % len(self.network)]
        if not keep:
            self.network.remove(message)
        if isinstance(message, Beacon):
            self.shards.feed_beacon(message)
        else:
            shard, payload = message
            self.follow(self.shards.feed_delta(shard, _delta.decode(payload)))

    def ask(self, which: int) -> None:
        for shard in self.shards.stale():
            self.answer(which, shard, self.shards.request(shard))

    def answer(self, which: int, shard: str, request: SnapshotRequest) -> None:
        chunks = [_chunk.decode(part) for part in self.answers[which].answer(shard, request)]
        upserts = {key: row for chunk in chunks for key, row in chunk.upserts}
        removes = tuple(key for chunk in chunks for key in chunk.removes)
        head = chunks[0]
        self.follow(self.shards.feed_snapshot(shard, Snapshot(head.epoch, head.sequence, head.since, upserts, removes)))

    def follow(self, changes: list[Change[int, int]]) -> None:
        """Apply what is handed over, as a consumer does."""
        for change in changes:
            rows = self.followed.setdefault(change.shard, {})
            for key in change.removes:
                del rows[key]
            rows.update(change.upserts)

    def check_state(self) -> None:
        """A shard never goes back, and its rows are the owner's at its position; so are those
        handed over.
        """
        for shard, known in self.shards.shards.items():
            assert known.position >= self.positions.get(shard, (0, 0))
            self.positions[shard] = known.position
            assert known.rows == self.followed.get(shard, {})
            if known.complete:
                past = self.past[known.position]
                assert known.rows == {key: row for key, row in past.items() if NUMBERS.shard(key) == shard}

    def settle(self) -> None:
        """A beacon gets through, and each thing that is needed is answered by a replica that has
        seen all.
        """
        for which in (0, 1):
            self.see(which, len(self.unseen[which]))
        self.replicas[1].lead(0)
        self.network.clear()
        self.shards.feed_beacon(self.replicas[1].beacon(0))
        self.ask(1)


STEPS = st.one_of(
    st.tuples(st.just("change"), st.integers(0, 8), st.none() | st.integers(0, 3)),
    st.tuples(st.just("send"), st.integers(0, 8), st.integers(0, 3)),
    st.tuples(st.just("see"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("publish"), st.integers(0, 1)),
    st.tuples(st.just("beacon"), st.integers(0, 1), st.integers(0, 10)),
    st.tuples(st.just("deliver"), st.integers(0, 50), st.booleans()),
    st.tuples(st.just("ask"), st.integers(0, 1)),
    st.tuples(st.just("lead"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 50)),
    st.tuples(st.just("suspect")),
    st.tuples(st.just("epoch")),
)


def play(world: World, step: tuple[object, ...]) -> None:
    match step:
        case ("change", int(key), value):
            world.change(key, value if isinstance(value, int) else None)
        case ("send", int(key), int(value)):
            world.change(key, value)
            world.see(0, len(world.unseen[0]))
            world.publish(0)
        case ("see", int(which), int(count)):
            world.see(which, count)
        case ("publish", int(which)):
            world.publish(which)
        case ("beacon", int(which), int(since)):
            world.beacon(which, since)
        case ("deliver", int(at), bool(keep)):
            world.deliver(at, keep=keep)
        case ("ask", int(which)):
            world.ask(which)
        case ("lead", int(which), bool(leading)):
            if leading:
                world.replicas[which].lead(0)
            else:
                world.replicas[which].follow()
        case ("lose", int(at)):
            if world.network:
                del world.network[at % len(world.network)]
        case ("suspect",):
            world.shards.suspect_loss()
        case ("epoch",):
            world.new_epoch()
        case _:
            raise AssertionError(step)


def check_agreement(world: World) -> None:
    world.settle()
    world.check_state()
    assert not world.shards.stale()
    held = {key: row for known in world.shards.shards.values() for key, row in known.rows.items()}
    assert held == world.truth


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.integers(0, 6), st.lists(STEPS, max_size=60))
def test_the_mirror_equals_the_owners_state_once_a_beacon_gets_through(
    every: bool, log_limit: int, steps: list[tuple[object, ...]]
) -> None:
    world = World(every=every, log_limit=log_limit)
    for step in steps:
        play(world, step)
        world.check_state()
    check_agreement(world)


def random_step(random: Random) -> tuple[object, ...]:
    which = random.randrange(2)
    steps: list[tuple[int, tuple[object, ...]]] = [
        (60, ("change", random.randrange(9), random.choice((None, 1, 2, 3)))),
        (50, ("see", which, random.randint(1, 4))),
        (40, ("publish", which)),
        (80, ("deliver", random.randrange(4), random.random() < 0.2)),
        (10, ("beacon", which, random.randrange(10))),
        (10, ("ask", which)),
        (10, ("lose", random.randrange(4))),
        (3, ("lead", which, random.random() < 0.7)),
        (2, ("suspect",)),
        (1, ("epoch",)),
    ]
    return random.choices([step for _, step in steps], [weight for weight, _ in steps])[0]


def test_long_histories_of_random_faults_agree_in_the_end() -> None:
    for seed in range(150):
        random = Random(seed)
        world = World(every=seed % 2 == 0, log_limit=random.choice((0, 5, 50)))
        for _ in range(random.randrange(400)):
            play(world, random_step(random))
            world.check_state()
        check_agreement(world)


def test_an_answer_for_every_shard_covers_shards_that_were_never_heard_of() -> None:
    world = World(every=True, log_limit=10)
    for key in range(9):
        world.change(key, key)
    world.see(0, 9)
    world.ask(0)
    assert {shard: known.sequence for shard, known in world.shards.shards.items()} == {"0": 10, "1": 10, "2": 10}
    assert EVERY_SHARD not in world.shards.shards
