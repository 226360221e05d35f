"""What every service does that owns tables whose truth is in etcd: mirror, publish while elected, name the history.

A service mirrors etcd in one loop, in the order of revisions. Each step becomes one commit of each of its tables, also
where it changes none of their rows, so that every table knows how far it is.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from cilia.contracts.keys import Keys
from cilia.kvstore import Changes, Election, Etcd, Reset, Txn, absent, get, put
from cilia.table.publisher import TablePublisher

K = TypeVar("K")
V = TypeVar("V")

ELECTION_POLL_SECONDS: Final = 0.1


async def settle_epoch(etcd: Etcd, keys: Keys) -> int:
    """Return the name of etcd's history, which the first service to ask sets to the time (Unix, in seconds).

    An etcd that lost its data so begins a greater epoch by itself. After a restore from a backup, delete the key and
    restart the services: revisions of before and after must not be mixed.
    """
    now = str(int(time.time())).encode()
    outcome = await etcd.txn(Txn((absent(keys.epoch),), (put(keys.epoch, now),), (get(keys.epoch),)))
    return int(now if outcome.succeeded else outcome.value(keys.epoch) or b"1")


def hand_over(
    publisher: TablePublisher[K, V],
    rows: Mapping[K, V | None],
    step: Reset | Changes,
    *,
    epoch: int,
    traceparent: str = "",
) -> None:
    """Pass what a step of the mirror means for a table on to its publisher; None stands for a removed row."""
    upserts = {key: row for key, row in rows.items() if row is not None}
    match step:
        case Reset(revision):
            publisher.reset(upserts, revision, epoch)
        case Changes(revision=revision):
            removes = [key for key, row in rows.items() if row is None]
            publisher.commit(revision, upserts, removes, traceparent=traceparent)


async def publish_while_elected(election: Election, publishers: Sequence[TablePublisher[Any, Any]]) -> None:
    """Have the tables published while this replica is elected; until cancelled."""
    leading = False
    while True:
        if election.leading != leading:
            leading = election.leading
            for publisher in publishers:
                if leading:
                    publisher.lead()
                else:
                    publisher.follow()
        await asyncio.sleep(ELECTION_POLL_SECONDS)
