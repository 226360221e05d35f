"""The record in etcd: written in pieces, each what changed since the last; joined anew when they
are many.

A later piece overrides an earlier one. So a write costs what changed, not what there is; and a
crash between joining and removing the old pieces costs nothing. A joined record of 100,000 flows is
some 4 MB.
"""

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
"""So many pieces more than needed are let be."""
_FLOWS: Final = msgspec.json.Decoder(tuple[RecordedFlow, ...])
_BOOK: Final = msgspec.json.Decoder(RecordSummary)


class FlowStore:
    """Reads the record when its replica takes over, and writes it while it leads."""

    def __init__(self, etcd: Etcd, keys: Keys, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._etcd = etcd
        self._keys = keys
        self._clock_ns = clock_ns
        self._pieces: list[str] = []
        self._about = b""

    async def load(self, limit: int) -> FlowTable:
        """Return what is kept.

        Raises:
            Unavailable: etcd doesn't answer.
        """
        records, _ = await self._etcd.range(self._keys.flows)
        about = next((_BOOK.decode(record.value) for record in records if record.key == self._keys.flow_book), None)
        book = FlowTable(limit, since_ns=about.since_ns if about else self._clock_ns())
        book.evicted = about.evicted if about else 0
        pieces = [record for record in records if record.key != self._keys.flow_book]
        for record in pieces:
            book.restore(_FLOWS.decode(zlib.decompress(record.value)))
        self._pieces = [record.key for record in pieces]
        return book

    async def write(self, book: FlowTable, *, counts: bool) -> None:
        """Write what is new, and with ``counts`` what has grown.

        Raises:
            Unavailable: Some of it may be written; the book still names all of it.
        """
        fresh, grown = set(book.fresh), set(book.grown) if counts else set()
        await self._put([book.rows[key] for key in fresh | grown])
        book.fresh -= fresh
        book.grown -= fresh | grown
        about = msgspec.json.encode(RecordSummary(book.since_ns, book.evicted))
        if about != self._about and (fresh or counts):
            await self._etcd.put(self._keys.flow_book, about)
            self._about = about
        if len(self._pieces) > SPARE_PIECES + len(book.rows) // PIECE:
            await self._join(book)

    async def _join(self, book: FlowTable) -> None:
        old, self._pieces = self._pieces, []
        try:
            await self._put(list(book.rows.values()))
        finally:
            self._pieces = old + self._pieces
        await self._etcd.delete_many(old)
        self._pieces = self._pieces[len(old) :]

    async def _put(self, flows: Sequence[RecordedFlow]) -> None:
        for at in range(0, len(flows), PIECE):
            key = f"{self._keys.flows}{self._clock_ns():020}-{secrets.token_hex(4)}"
            await self._etcd.put(key, zlib.compress(msgspec.json.encode(flows[at : at + PIECE])))
            self._pieces.append(key)
