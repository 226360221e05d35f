"""Which deltas go to a holder of many shards in one message, without I/O.

A shard's deltas go to whoever subscribes to it. Where many shards change at once and few
subscribers hold them, as when a policy selects a hundred identities of one node, one message for
each holder is cheaper than one for each shard. The owner's list of holders need not be exact: who
holds a shard and isn't named finds in the beacon that it is behind.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cilia.contracts.tables import DeltaBatch
from cilia.table.changelog import Outgoing
from cilia.table.wire import BLOCK_BYTES, encode

K = TypeVar("K")
V = TypeVar("V")

Holders = Callable[[str], Iterable[str]]
"""Shard -> names of the subscribers that hold it."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """A message for one holder."""

    holder: str
    payload: bytes
    traceparent: str


@dataclass(frozen=True, slots=True)
class Packed(Generic[K, V]):
    """What is to be sent: by holder, or else by shard."""

    parcels: Sequence[Addressed]
    deltas: Sequence[Outgoing[K, V]]


def pack(outgoing: Sequence[Outgoing[K, V]], holders: Holders) -> Packed[K, V]:
    """Choose the way that takes fewer messages; parcels must each fit into one."""
    by_holder: dict[str, list[Outgoing[K, V]]] = {}
    for each in outgoing:
        for holder in holders(each.shard):
            by_holder.setdefault(holder, []).append(each)
    if not 0 < len(by_holder) < len(outgoing):
        return Packed((), outgoing)
    parcels = [_address(holder, some) for holder, some in by_holder.items()]
    if any(len(parcel.payload) > BLOCK_BYTES for parcel in parcels):
        return Packed((), outgoing)
    return Packed(parcels, ())


def _address(holder: str, some: Sequence[Outgoing[K, V]]) -> Addressed:
    parcel = DeltaBatch(tuple((each.shard, each.delta) for each in some))
    return Addressed(holder, encode(parcel), max(each.traceparent for each in some))
