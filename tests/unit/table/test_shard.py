"""One shard by text scripts: messages in, its state and changes out.

Left of the arrow a message, right of it the state: ``epoch@sequence rows``, ``behind`` if it needs
a snapshot, ``suspect`` if it does unless a beacon comes first; then, in brackets, what changed.

    snapshot 1@5 a=1      whole rows at epoch 1, sequence 5
    since 3 1@5 a=1 -b    changes in (3, 5]
    delta 1: 5>6 a=2 -b   changes in (5, 6] of epoch 1; ``2/3`` behind it: the second of three parts
    beacon 1: 5>9 8       covers (5, 9], this shard changed last at 8; without a head: it did not
"""

import re

import pytest

from cilia.contracts.distribution import Beacon, Delta
from cilia.table.shard import KEPT_DELTAS, Change, Snapshot, SubscribedShard

SCRIPTS = {
    "deltas that follow each other are applied at once": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 5>6 a=2 b=1        -> 1@6 a=2 b=1 [a=2 b=1]
        delta 1: 6>7 -b             -> 1@7 a=2 [-b]
    """,
    "rows that are as they were are no change": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 5>6 a=1 -c         -> 1@6 a=1 [nothing]
    """,
    "an overlap is applied, for rows carry the newest state": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 2>6 a=2            -> 1@6 a=2 [a=2]
    """,
    "what is behind changes nothing": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 3>5 a=9            -> 1@5 a=1
        delta 1: 3>4 a=9            -> 1@5 a=1
        snapshot 1@4 a=9            -> 1@5 a=1
        beacon 1: 1>4               -> 1@5 a=1
    """,
    "a gap is noticed, the delta kept, and applied when the missing one comes late": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 6>7 b=7            -> 1@5 a=1 behind
        delta 1: 5>6 b=6            -> 1@7 a=1 b=7 [b=6] [b=7]
    """,
    "deltas that come before the first snapshot are kept": """
        delta 1: 41>42 a=42         -> 0@0 behind
        delta 1: 42>43 a=43         -> 0@0 behind
        delta 1: 43>44 b=44         -> 0@0 behind
        snapshot 1@43 a=43 c=1      -> 1@44 a=43 b=44 c=1 [full a=43 c=1] [b=44]
    """,
    "a snapshot of before what was heard still helps, and the gap remains": """
        delta 1: 8>9 a=9            -> 0@0 behind
        snapshot 1@5 a=5            -> 1@5 a=5 behind [full a=5]
        since 5 1@8 b=8             -> 1@9 a=9 b=8 [b=8] [a=9]
    """,
    "changes since are of use to who has that sequence only": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        since 7 1@9 b=9             -> 1@5 a=1
        since 4 1@9 -a b=9          -> 1@9 b=9 [b=9 -a]
    """,
    "changes since mean nothing to who has nothing": """
        since 3 1@9 a=9             -> 0@0 behind
    """,
    "a beacon that names no change moves the sequence": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        beacon 1: 4>9               -> 1@9 a=1
        delta 1: 5>10 a=2           -> 1@10 a=2 [a=2]
    """,
    "a beacon with a newer head says that a delta was lost": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        beacon 1: 4>9 8             -> 1@5 a=1 behind
        delta 1: 5>8 a=8            -> 1@8 a=8 [a=8]
    """,
    "a beacon that doesn't reach back far enough leaves it open what was lost": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        beacon 1: 7>9               -> 1@5 a=1 behind
        since 5 1@9                 -> 1@9 a=1 [nothing]
    """,
    "a head that is known is no gap": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        beacon 1: 0>9 5             -> 1@9 a=1
    """,
    "a greater epoch is the truth, also with a smaller sequence": """
        snapshot 1@500 a=1 b=1      -> 1@500 a=1 b=1 [full a=1 b=1]
        delta 2: 6>7 a=7            -> 1@500 a=1 b=1 behind
        snapshot 2@6 a=1            -> 2@7 a=7 [full -b] [a=7]
    """,
    "what an older epoch says means nothing once a newer one was heard of": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        beacon 2: 0>3               -> 1@5 a=1 behind
        delta 1: 5>6 a=6            -> 1@5 a=1 behind
        snapshot 1@9 a=9            -> 1@5 a=1 behind
        beacon 1: 0>9               -> 1@5 a=1 behind
        snapshot 2@3 c=3            -> 2@3 c=3 [full c=3 -a]
    """,
    "kept deltas of an epoch that ended are forgotten": """
        delta 1: 5>6 a=6            -> 0@0 behind
        beacon 2: 0>3               -> 0@0 behind
        snapshot 2@5                -> 2@5 [full nothing]
    """,
    "a delta in parts is applied whole, and not before the last": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 5>6 b=2 1/3        -> 1@5 a=1 behind
        delta 1: 5>6 c=2 2/3        -> 1@5 a=1 behind
        delta 1: 5>6 -a 3/3         -> 1@6 b=2 c=2 [b=2 c=2 -a]
    """,
    "a part that is missing voids the delta": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 5>6 a=2 1/3        -> 1@5 a=1 behind
        delta 1: 5>6 -a 3/3         -> 1@5 a=1 behind
        snapshot 1@6 b=2            -> 1@6 b=2 [full b=2 -a]
    """,
    "parts of two deltas don't mix": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        delta 1: 5>6 a=2 1/2        -> 1@5 a=1 behind
        other 1: 5>6 b=2 2/2        -> 1@5 a=1 behind
    """,
    "a suspicion is cleared by a beacon": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        suspect                     -> 1@5 a=1 suspect
        beacon 1: 4>6               -> 1@6 a=1
    """,
    "a suspicion is cleared by a snapshot that is no older than the rows": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        suspect                     -> 1@5 a=1 suspect
        snapshot 1@4 a=0            -> 1@5 a=1 suspect
        snapshot 1@5 a=1            -> 1@5 a=1
    """,
    "a suspicion that a beacon confirms is a gap": """
        snapshot 1@5 a=1            -> 1@5 a=1 [full a=1]
        suspect                     -> 1@5 a=1 suspect
        beacon 1: 0>9 7             -> 1@5 a=1 behind suspect
        since 5 1@9 a=7             -> 1@9 a=7 [a=7]
    """,
}


def rows(words: str) -> tuple[dict[str, int], tuple[str, ...]]:
    pairs = [word.split("=") for word in words.split() if "=" in word]
    return {key: int(value) for key, value in pairs}, tuple(w[1:] for w in words.split() if w.startswith("-"))


def numbers(text: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", text)]


def feed(shard: SubscribedShard[str, int], line: str) -> list[Change[str, int]]:
    kind, _, rest = line.partition(" ")
    match kind:
        case "snapshot" | "since":
            since = 0
            if kind == "since":
                first, _, rest = rest.partition(" ")
                since = int(first)
            at, _, words = rest.partition(" ")
            epoch, sequence = numbers(at)
            return shard.feed_snapshot(Snapshot(epoch, sequence, since, *rows(words)))
        case "delta" | "other":
            head, _, words = rest.partition(": ")
            span, _, words = words.partition(" ")
            part = re.search(r"(\d)/(\d)$", words)
            place = (int(part[1]) - 1, int(part[2])) if part else (0, 1)
            upserts, removes = rows(words)
            previous, sequence = numbers(span)
            batch = 7 if kind == "delta" else 8
            delta = Delta(int(head), previous, sequence, tuple(upserts.items()), removes, *place, batch)
            return shard.feed_delta(delta)
        case "beacon":
            head, _, words = rest.partition(": ")
            since, sequence, *heads = numbers(words)
            shard.feed_beacon(Beacon(int(head), since, sequence, {"s": heads[0]} if heads else {}))
        case "suspect":
            shard.suspect = True
        case _:
            raise AssertionError(line)
    return []


def show(shard: SubscribedShard[str, int], changes: list[Change[str, int]]) -> str:
    words = [f"{shard.epoch}@{shard.sequence}", *(f"{key}={row}" for key, row in sorted(shard.rows.items()))]
    words += ["behind"] * shard.behind + ["suspect"] * shard.suspect
    for change in changes:
        inside = ["full"] * change.full + [f"{key}={row}" for key, row in sorted(change.upserts.items())]
        inside += [f"-{key}" for key in sorted(change.removes)]
        empty = ["nothing"] if not (change.upserts or change.removes) else []
        words.append(f"[{' '.join(inside + empty)}]")
    return " ".join(words)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_shard_follows_the_script(script: str) -> None:
    shard = SubscribedShard[str, int]("s")
    for line in script.strip().splitlines():
        message, _, expected = (part.strip() for part in line.partition("->"))
        assert show(shard, feed(shard, message)) == expected, message


def test_kept_deltas_are_bounded_and_the_newest_stay() -> None:
    shard = SubscribedShard[str, int]("s")
    for sequence in range(10, 10 + KEPT_DELTAS + 50):
        shard.feed_delta(Delta(1, sequence - 1, sequence, (("a", sequence),)))
    first_kept = 10 + 50
    changes = shard.feed_snapshot(Snapshot(1, first_kept - 1, 0, {}))
    assert len(changes) == 1 + KEPT_DELTAS
    assert shard.rows == {"a": 10 + KEPT_DELTAS + 49}
    assert not shard.behind


def test_a_kept_delta_keeps_its_trace() -> None:
    shard = SubscribedShard[str, int]("s")
    shard.feed_delta(Delta(1, 5, 6, (("a", 6),)), "00-a-b-01")
    _, applied = shard.feed_snapshot(Snapshot(1, 5, 0, {}))
    assert applied.traceparent == "00-a-b-01"


def test_the_end_of_interest_removes_all_rows() -> None:
    shard = SubscribedShard[str, int]("s")
    shard.feed_snapshot(Snapshot(1, 5, 0, {"a": 1, "b": 2}))
    gone = shard.forget()
    assert (set(gone.removes), gone.full, gone.sequence) == ({"a", "b"}, True, 5)


def test_two_changes_become_one_that_means_both() -> None:
    first = Change("s", 5, {"a": 1, "b": 1}, frozenset({"c", "d"}), True, "first")
    later = Change("s", 6, {"c": 2, "b": 2}, frozenset({"a"}))
    both = first.then(later)
    assert both == Change("s", 6, {"b": 2, "c": 2}, frozenset({"a", "d"}), True, "first")
