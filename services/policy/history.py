"""Revisions of policy in etcd: each written in the transaction of its change, so there is no change without one.

The values are compressed, since each holds what it changed before and after. The newest ``MOST_REVISIONS`` are kept; the
elected replica removes older ones now and then.
"""

import asyncio
import secrets
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.history import Blamed, HistoryQuery, HistoryRow, Origin, PolicyHistory, PolicyRevision
from cilia.contracts.ids import Revision
from cilia.contracts.keys import Keys
from cilia.contracts.messages import Problem
from cilia.errors import Refused
from cilia.kvstore import Etcd, Op, Txn, delete, put
from cilia.policy.revisions import find_origin

MOST_REVISIONS: Final = 500
PRUNE_SECONDS: Final = 60.0
_BATCH: Final = 64
_DECODER: Final = msgspec.json.Decoder(PolicyRevision)


class HistoryTooShort(Refused):
    """A revision lies before the history that is kept."""

    def __init__(self, revision: int, oldest: int) -> None:
        kept = f"is kept from revision {oldest} on" if oldest else "is empty"
        text = f"the history of policies {kept}; revision {revision} is unknown"
        super().__init__(Problem("not_found", text, field="revision", value=str(revision)))


def record_change(keys: Keys, change: PolicyRevision) -> Op:
    """Return the operation that writes a revision down, for the transaction of its change.

    Nobody waits for anybody else: the key is new for each, and etcd's revision gives the order.
    """
    key = keys.policy_revision(f"{change.applied_ns:020}-{secrets.token_hex(4)}")
    return put(key, zlib.compress(msgspec.json.encode(change)))


@dataclass(frozen=True, slots=True)
class History:
    """Reads revisions, and removes old ones."""

    etcd: Etcd
    keys: Keys

    async def read(self) -> list[HistoryRow]:
        """Return what is kept, the oldest first."""
        records, _ = await self.etcd.range(self.keys.policy_revisions)
        rows = [
            HistoryRow(Revision(record.mod_revision), _DECODER.decode(zlib.decompress(record.value)))
            for record in records
        ]
        return sorted(rows, key=lambda row: (row.revision, row.change.applied_ns))

    async def since(self, revision: Revision) -> list[HistoryRow]:
        """Return what is kept, if that tells the state at ``revision``.

        Raises:
            HistoryTooShort: It doesn't reach back.
        """
        rows = await self.read()
        oldest = rows[0].revision if rows else 0
        if not oldest or revision < oldest:
            raise HistoryTooShort(revision, oldest)
        return rows

    async def list(self, query: HistoryQuery) -> PolicyHistory:
        """Answer ``policy.history``.

        Raises:
            HistoryTooShort: The one revision that is asked for isn't there.
        """
        rows = await self.read()
        oldest = rows[0].revision if rows else Revision(0)
        found = [row for row in reversed(rows) if _is_asked(query, row)]
        if query.revision and not found:
            raise HistoryTooShort(query.revision, oldest)
        return PolicyHistory(tuple(found[: max(query.limit, 1)]), oldest)

    async def prune(self, keep: int = MOST_REVISIONS) -> int:
        """Remove the oldest revisions beyond ``keep``; returns how many."""
        records, _ = await self.etcd.range(self.keys.policy_revisions)
        surplus = sorted(records, key=lambda record: record.mod_revision)[: max(len(records) - keep, 0)]
        for first in range(0, len(surplus), _BATCH):
            await self.etcd.txn(Txn((), [delete(record.key) for record in surplus[first : first + _BATCH]]))
        return len(surplus)

    async def prune_while(self, leading: Callable[[], bool]) -> None:
        """Keep the history bounded while this replica is the elected one; until cancelled."""
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            if leading():
                await self.prune()


def _is_asked(query: HistoryQuery, row: HistoryRow) -> bool:
    if query.revision and row.revision != query.revision:
        return False
    return not query.key or any(step.key == query.key for step in row.change.steps)


async def blame(
    history: History, explain: Callable[[ExplainFlow], Awaitable[Explained]], request: ExplainFlow
) -> Blamed:
    """Answer ``policy.blame``: explain a flow, and find the origin of each rule and policy that decides it."""
    explained = await explain(request)
    rows = await history.read()
    places = [
        (policy, rule)
        for side in (explained.egress, explained.ingress)
        for policy, rule in (
            *((place.policy, place.rule) for place in side.rules),
            *((key, "") for key in side.isolated_by),
        )
    ]
    return Blamed(explained, tuple(_origins(places, rows)))


def _origins(places: Sequence[tuple[str, str]], rows: Sequence[HistoryRow]) -> list[Origin]:
    return [Origin(policy, rule, find_origin(rows, policy, rule)) for policy, rule in dict.fromkeys(places)]
