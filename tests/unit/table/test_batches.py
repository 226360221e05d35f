import msgspec
import pytest

from cilia.contracts.distribution import Delta, DeltaBatch
from cilia.table.batches import pack
from cilia.table.changelog import Outgoing
from cilia.table.wire import BLOCK_BYTES


def outgoing(*shards: str, size: int = 1) -> list[Outgoing[str, str]]:
    return [Outgoing(shard, Delta(1, 4, 5, ((shard, "x" * size),)), "") for shard in shards]


@pytest.mark.parametrize(
    ("subscribers", "batches"),
    [
        ({"1": ["a"], "2": ["a"], "3": ["a"]}, {"a": ["1", "2", "3"]}),
        ({"1": ["a"], "2": ["a", "b"], "3": []}, {"a": ["1", "2"], "b": ["2"]}),
        ({"1": ["a"], "2": ["b"], "3": ["c"]}, {}),
        ({"1": ["a", "b", "c", "d"], "2": ["a"], "3": ["a"]}, {}),
        ({"1": [], "2": [], "3": []}, {}),
    ],
)
def test_the_way_that_takes_fewer_messages_is_chosen(
    subscribers: dict[str, list[str]], batches: dict[str, list[str]]
) -> None:
    packed = pack(outgoing(*subscribers), subscribers.__getitem__)
    decode = msgspec.msgpack.Decoder(DeltaBatch[str, str]).decode
    assert {each.subscriber: [shard for shard, _ in decode(each.payload).deltas] for each in packed.batches} == batches
    assert len(packed.deltas) == (0 if batches else len(subscribers))


def test_what_does_not_fit_into_one_message_goes_by_shards() -> None:
    packed = pack(outgoing("1", "2", size=BLOCK_BYTES // 2 + 1), lambda _: ["a"])
    assert (packed.batches, len(packed.deltas)) == ((), 2)
