"""Informer: the loop that follows etcd, the only writer of a service's cache and of its tables.

It works in the order of revisions. Each step becomes one commit of each table, also where it
changes none of its rows, so that every table knows how far it is.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.kvstore import Changes, Etcd, Reset, replicate
from cilia.owner.cache import Cache, RowChange
from cilia.table.publisher import TablePublisher


@dataclass(frozen=True, slots=True)
class Informer:
    """Feeds a cache, and from it the tables."""

    etcd: Etcd
    keys: Keys
    epoch: int
    prefixes: Sequence[str]
    """Prefixes of the keys that the cache wants."""
    cache: Cache
    publishers: Sequence[TablePublisher[Any, Any]]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole state is here."""

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        async for step in replicate(self.etcd, self.keys.root, self.prefixes):
            self.take(step)
            self.ready.set()

    def take(self, step: Reset | Changes) -> None:
        """Fold a step in and commit it to every table."""
        rows: dict[str, dict[Any, Any]] = {publisher.name: {} for publisher in self.publishers}
        for change in fold(self.cache, step):
            rows[change.table.name][change.key] = change.row
        for publisher in self.publishers:
            _commit(publisher, rows[publisher.name], step, self.epoch)


def fold(cache: Cache, step: Reset | Changes) -> list[RowChange[Any, Any]]:
    """Fold a step into the cache; return the changes of tables that it means, in order."""
    changes: list[RowChange[Any, Any]] = []
    match step:
        case Reset(records=records):
            cache.clear()
            for record in records:
                changes += cache.put(record.key, record.value, Revision(record.mod_revision))
        case Changes(events=events):
            for event in events:
                if event.removed:
                    changes += cache.delete(event.key)
                else:
                    changes += cache.put(event.key, event.record.value, Revision(event.revision))
    return changes


def _commit(publisher: TablePublisher[Any, Any], rows: dict[Any, Any], step: Reset | Changes, epoch: int) -> None:
    upserts = {key: row for key, row in rows.items() if row is not None}
    match step:
        case Reset(revision):
            publisher.reset(upserts, revision, epoch)
        case Changes(revision=revision):
            publisher.commit(revision, upserts, [key for key, row in rows.items() if row is None])
