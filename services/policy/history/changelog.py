"""Changelog of policy in etcd: each revision is written in the transaction of its change.

The values are compressed, since each holds what it changed before and after. The newest
``MOST_REVISIONS`` are kept; the elected replica removes older ones now and then.
"""

import asyncio
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec
from msgspec.structs import replace

from cilia.contracts.history import HistoryQuery, HistoryRow, PolicyHistory, PolicyRevision, PolicyStep
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Problem, ProblemCode
from cilia.errors import Refused
from cilia.kvstore import Etcd, Op, Record, put

MOST_REVISIONS: Final = 500
PRUNE_SECONDS: Final = 60.0
_DECODER: Final = msgspec.json.Decoder(PolicyRevision)


class HistoryTooShort(Refused):
    """A revision lies before the history that is kept."""

    def __init__(self, revision: int, oldest: int) -> None:
        kept = f"is kept from revision {oldest} on" if oldest else "is empty"
        text = f"the history of policies {kept}; revision {revision} is unknown"
        super().__init__(Problem(ProblemCode.NOT_FOUND, text, field="revision", value=str(revision)))


def record_change(keys: Keys, change: PolicyRevision) -> Op:
    """Return the operation that writes a revision down, for the transaction of its change.

    Nobody waits for anybody else: the key is new for each, and etcd's revision gives the order.
    """
    key = keys.policy_revision(f"{change.applied_ns:020}-{secrets.token_hex(4)}")
    return put(key, zlib.compress(msgspec.json.encode(change)))


@dataclass(frozen=True, slots=True)
class Changelog:
    """Revisions that are kept, and the removal of old ones."""

    etcd: Etcd
    keys: Keys

    async def read(self) -> list[HistoryRow]:
        """Return what is kept, the oldest first."""
        return [_read_row(record) for record in reversed(await self._newest_first())]

    async def _newest_first(self) -> list[Record]:
        """Return what is kept, as it is stored: each may be megabytes when it is read."""
        records, _ = await self.etcd.range(self.keys.policy_revisions)
        return sorted(records, key=lambda record: (record.mod_revision, record.key), reverse=True)

    async def since(self, revision: Revision) -> list[HistoryRow]:
        """Return what came after ``revision``, the newest first, if that tells the state at it.

        Raises:
            HistoryTooShort: It doesn't reach back.
        """
        records = await self._newest_first()
        oldest = records[-1].mod_revision if records else 0
        if not oldest or revision < oldest:
            raise HistoryTooShort(revision, oldest)
        return [_read_row(record) for record in records if record.mod_revision > revision]

    async def list(self, query: HistoryQuery) -> PolicyHistory:
        """Answer ``policy.history``.

        Raises:
            HistoryTooShort: The one revision that is asked for isn't there.
        """
        records = await self._newest_first()
        oldest = Revision(records[-1].mod_revision if records else 0)
        wanted = (record for record in records if query.revision in (0, record.mod_revision))
        rows = (row for row in map(_read_row, wanted) if _is_asked(query, row))
        found = tuple(islice(rows, max(query.limit, 1)))
        if query.revision and not found:
            raise HistoryTooShort(query.revision, oldest)
        return PolicyHistory(tuple(map(_without_documents, found)) if query.brief else found, oldest)

    async def prune(self, keep: int = MOST_REVISIONS) -> int:
        """Remove the oldest revisions beyond ``keep``; returns how many."""
        surplus = (await self._newest_first())[keep:]
        await self.etcd.delete_many([record.key for record in surplus])
        return len(surplus)

    async def prune_while(self, leading: Callable[[], bool]) -> None:
        """Keep the history bounded while this replica is the elected one; until cancelled."""
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            if leading():
                await self.prune()


def _read_row(record: Record) -> HistoryRow:
    return HistoryRow(Revision(record.mod_revision), _DECODER.decode(zlib.decompress(record.value)))


def _without_documents(row: HistoryRow) -> HistoryRow:
    steps = tuple(PolicyStep(step.key, "", "") for step in row.change.steps)
    return replace(row, change=replace(row.change, steps=steps))


def _is_asked(query: HistoryQuery, row: HistoryRow) -> bool:
    return not query.key or any(step.key == query.key for step in row.change.steps)
