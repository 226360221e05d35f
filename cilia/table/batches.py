"""Deltas of many shards in one message for a subscriber that is known by name, without I/O.

A shard's deltas go to whoever subscribes to it. Where many shards change at once and few
subscribers hold them, as when a policy selects a hundred identities of one node, one message for
each subscriber is cheaper than one for each shard. The owner's list of subscribers need not be
exact: one that holds a shard and isn't named finds in the beacon that it is behind.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cilia.contracts.distribution import DeltaBatch
from cilia.table.changelog import Outgoing
from cilia.table.wire import BLOCK_BYTES, encode

K = TypeVar("K")
V = TypeVar("V")

SubscribersOf = Callable[[str], Iterable[str]]
"""Shard -> names of the subscribers that hold it."""


@dataclass(frozen=True, slots=True)
class AddressedBatch:
    """A message for one subscriber."""

    subscriber: str
    payload: bytes
    traceparent: str


@dataclass(frozen=True, slots=True)
class Packed(Generic[K, V]):
    """Messages to send: batches by subscriber, or else deltas by shard."""

    batches: Sequence[AddressedBatch]
    deltas: Sequence[Outgoing[K, V]]


def pack(outgoing: Sequence[Outgoing[K, V]], subscribers_of: SubscribersOf) -> Packed[K, V]:
    """Choose the way that takes fewer messages; each batch must fit into one."""
    by_subscriber: dict[str, list[Outgoing[K, V]]] = {}
    for each in outgoing:
        for subscriber in subscribers_of(each.shard):
            by_subscriber.setdefault(subscriber, []).append(each)
    if not 0 < len(by_subscriber) < len(outgoing):
        return Packed((), outgoing)
    batches = [_address(subscriber, some) for subscriber, some in by_subscriber.items()]
    if any(len(batch.payload) > BLOCK_BYTES for batch in batches):
        return Packed((), outgoing)
    return Packed(batches, ())


def _address(subscriber: str, some: Sequence[Outgoing[K, V]]) -> AddressedBatch:
    batch = DeltaBatch(tuple((each.shard, each.delta) for each in some))
    return AddressedBatch(subscriber, encode(batch), max(each.traceparent for each in some))
