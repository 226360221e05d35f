"""Group commit: transactions that arrive while one is on its way to etcd go in the next together.

etcd makes a raft entry and an fsync of each request, so a burst of small transactions is bound by
the disk. Nested in one outer transaction they share both. etcd evaluates all nested conditions
before it carries any of them out, so only those go together of which none writes what another reads
or writes: then the outcome is that of one after the other. To read, or to delete, the same key is
no conflict. One that touches a range of keys goes alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cilia.errors import Failure, Unavailable
from cilia.kvstore.errors import KvstoreError
from cilia.kvstore.limits import Limits, depth
from cilia.kvstore.operations import Txn, TxnResult
from cilia.kvstore.schema import message
from cilia.notify import Wakeup

Send = Callable[[Any], Awaitable[Any]]
"""TxnRequest -> TxnResponse."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys that transactions touch."""

    read: frozenset[bytes] = frozenset()
    written: frozenset[bytes] = frozenset()
    deleted: frozenset[bytes] = frozenset()

    def __or__(self, other: "_Keys") -> "_Keys":
        return _Keys(self.read | other.read, self.written | other.written, self.deleted | other.deleted)

    def conflict(self, other: "_Keys") -> bool:
        """Tell whether one changes what the other touches; both may delete a key."""
        return not (
            self.written.isdisjoint(other.written | other.deleted | other.read)
            and self.deleted.isdisjoint(other.written | other.read)
            and self.read.isdisjoint(other.written | other.deleted)
        )


@dataclass(eq=False, slots=True)
class _Pending:
    request: Any
    keys: _Keys | None
    """None: touches ranges."""
    depth: int
    """Its longest list: conditions, or operations of a branch."""
    size: int
    """Bytes on the wire."""
    result: "asyncio.Future[TxnResult]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommit:
    """Carries transactions out: alone while the line is idle, in groups while it is busy."""

    def __init__(self, send: Send, limits: Limits) -> None:
        self._send = send
        self._limits = limits
        self._pending: list[_Pending] = []
        self._wake = Wakeup()
        self._closed = False

    async def commit(self, txn: Txn) -> TxnResult:
        """Carry one transaction out; the refusal of one is never that of another.

        Raises:
            Unavailable: No endpoint answered; it may have been carried out.
            TransactionTooLarge: It was not sent.
            KvstoreError: etcd refused it.
        """
        if self._closed:
            raise _closed()
        request = txn.request()
        self._limits.check(request)
        mine = _Pending(request, _keys(request), depth(request), request.ByteSize())
        self._pending.append(mine)
        self._wake.set()
        return await mine.result

    async def run(self) -> None:
        """Send groups, one after the other, until cancelled; nobody is left waiting."""
        group: list[_Pending] = []
        try:
            while True:
                await self._wake.wait()
                while self._pending:
                    group, self._pending = _split(self._pending, self._limits.group)
                    await self._commit_group(group)
        finally:
            self._closed = True
            _refuse(group + self._pending, _closed())

    async def _commit_group(self, group: list[_Pending]) -> None:
        try:
            results = await (self._send_one(group[0]) if len(group) == 1 else self._send_nested(group))
        except KvstoreError as error:
            if len(group) == 1:
                _refuse(group, error)
            else:  # etcd refused all for one: find out which
                for pending in group:
                    await self._commit_group([pending])
        except Failure as error:
            _refuse(group, error)
        else:
            for pending, result in zip(group, results, strict=True):
                if not pending.result.done():
                    pending.result.set_result(result)

    async def _send_one(self, pending: _Pending) -> list[TxnResult]:
        response = await self._send(pending.request)
        return [TxnResult.read(response, response.header.revision)]

    async def _send_nested(self, group: list[_Pending]) -> list[TxnResult]:
        outer = message("TxnRequest")()
        for pending in group:
            outer.success.add().request_txn.CopyFrom(pending.request)
        response = await self._send(outer)
        return [TxnResult.read(part.response_txn, response.header.revision) for part in response.responses]


def _split(pending: list[_Pending], limits: Limits) -> tuple[list[_Pending], list[_Pending]]:
    """Take the next group, within limits unless it is one transaction.

    None overtakes an earlier one that touches the same keys.
    """
    first = pending[0]
    if first.keys is None:
        return [first], pending[1:]
    group, rest = [first], list[_Pending]()
    seen, longest, size = first.keys, first.depth, first.size
    for at, later in enumerate(pending[1:], 1):
        deepest, total = max(longest, later.depth), size + later.size
        if later.keys is None or len(group) + 1 + deepest > limits.operations or total > limits.size_bytes:
            return group, rest + pending[at:]
        if seen.conflict(later.keys):
            rest.append(later)
        else:
            group.append(later)
            longest, size = deepest, total
        seen |= later.keys
    return group, rest


def _closed() -> Unavailable:
    return Unavailable("the kvstore", "the connection is closed")


def _refuse(group: list[_Pending], error: Failure) -> None:
    for pending in group:
        if not pending.result.done():
            pending.result.set_exception(error)


def _keys(request: Any) -> _Keys | None:
    """Return the keys that a TxnRequest touches; None if it touches a range."""
    if any(compare.range_end for compare in request.compare):
        return None
    read = {compare.key for compare in request.compare}
    written, deleted = set[bytes](), set[bytes]()
    of_kind = {"request_range": read, "request_put": written, "request_delete_range": deleted}
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        part = getattr(op, kind)
        if kind not in of_kind or (kind != "request_put" and part.range_end):
            return None
        of_kind[kind].add(part.key)
    return _Keys(frozenset(read), frozenset(written), frozenset(deleted))
