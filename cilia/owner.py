"""What every service does that owns tables whose truth is in etcd: mirror, publish while elected, answer.

A service mirrors etcd with one :class:`Replica`, in one loop, in the order of revisions. Each revision becomes one
commit of each of its tables, also where it changes none of their rows, so that every table knows how far it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from cilia.kvstore import Batch, Election
from cilia.table.publisher import TablePublisher

K = TypeVar("K")
V = TypeVar("V")


def hand_over(
    publisher: TablePublisher[K, V], rows: Mapping[K, V | None], batch: Batch, *, epoch: int, traceparent: str = ""
) -> None:
    """Pass what a batch means for a table on to its publisher; None stands for a removed row."""
    upserts = {key: row for key, row in rows.items() if row is not None}
    if batch.whole:
        publisher.reset(upserts, batch.revision, epoch)
    else:
        removes = [key for key, row in rows.items() if row is None]
        publisher.commit(batch.revision, upserts, removes, traceparent=traceparent)


async def publish_while_elected(election: Election, publishers: Sequence[TablePublisher[Any, Any]]) -> None:
    """Stand for election until cancelled; while elected, have the tables published."""

    def lead() -> None:
        for publisher in publishers:
            publisher.lead()

    def follow() -> None:
        for publisher in publishers:
            publisher.follow()

    await election.run(lead, follow)
