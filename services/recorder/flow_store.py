"""Record of flows in etcd, in pieces: each holds what changed since the last; many are joined.

A later piece overrides an earlier one. So a write costs what changed, not what there is; and a
crash between joining and removing the old pieces costs nothing. A joined record of 100,000 flows is
some 4 MB.
"""

import re
import secrets
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from cilia.contracts.flows import RecordedFlow
from cilia.contracts.keys import Keys, RecordSummary
from cilia.kvstore import Etcd
from services.recorder.flow_table import FlowTable

PIECE: Final = 2000
"""Flows in one value."""
SPARE_PIECES: Final = 64
"""Pieces beyond those needed that may stand before all are joined."""
_PIECE_KEY: Final = re.compile(r"\d{20}-[0-9a-f]{8}")
_FLOWS: Final = msgspec.json.Decoder(tuple[RecordedFlow, ...])
_SUMMARY: Final = msgspec.json.Decoder(RecordSummary)


class FlowStore:
    """Store of the record: read when its replica takes over, written while it leads."""

    def __init__(self, etcd: Etcd, keys: Keys, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._etcd = etcd
        self._keys = keys
        self._clock_ns = clock_ns
        self._pieces: list[str] = []
        self._summary = b""

    async def load(self, limit: int) -> FlowTable:
        """Return what is stored.

        Raises:
            Unavailable: etcd doesn't answer.
        """
        records, _ = await self._etcd.range(self._keys.flows)
        pieces = [record for record in records if _PIECE_KEY.fullmatch(record.key.removeprefix(self._keys.flows))]
        summaries = [_SUMMARY.decode(each.value) for each in records if each.key == self._keys.flow_summary]
        summary = summaries[0] if summaries else RecordSummary(since_ns=self._clock_ns())
        table = FlowTable(limit, since_ns=summary.since_ns)
        table.evicted = summary.evicted
        for record in pieces:
            table.restore(_FLOWS.decode(zlib.decompress(record.value)))
        self._pieces = [record.key for record in pieces]
        return table

    async def write(self, table: FlowTable, *, counts: bool) -> None:
        """Write flows that are new, and with ``counts`` those that have grown.

        Raises:
            Unavailable: Some of it may be written; the table still names all of it.
        """
        new, grown = set(table.new), set(table.grown) if counts else set()
        await self._put([table.rows[key] for key in new | grown])
        table.new -= new
        table.grown -= new | grown
        summary = msgspec.json.encode(RecordSummary(table.since_ns, table.evicted))
        if summary != self._summary and (new or counts):
            await self._etcd.put(self._keys.flow_summary, summary)
            self._summary = summary
        if len(self._pieces) > SPARE_PIECES + len(table.rows) // PIECE:
            await self._join(table)

    async def _join(self, table: FlowTable) -> None:
        old, self._pieces = self._pieces, []
        try:
            await self._put(list(table.rows.values()))
        finally:
            self._pieces = old + self._pieces
        await self._etcd.delete_many(old)
        self._pieces = self._pieces[len(old) :]

    async def _put(self, flows: Sequence[RecordedFlow]) -> None:
        for at in range(0, len(flows), PIECE):
            key = f"{self._keys.flows}{self._clock_ns():020}-{secrets.token_hex(4)}"
            await self._etcd.put(key, zlib.compress(msgspec.json.encode(flows[at : at + PIECE])))
            self._pieces.append(key)
