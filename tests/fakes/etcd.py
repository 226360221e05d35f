"""A fake etcd: keys, revisions, transactions, leases and watches in memory, and failures to order.

It is compared with the real one in tests/unit/kvstore/test_fake.py.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from cilia.errors import Failure, Unavailable
from cilia.kvstore import (
    Batch,
    Compacted,
    Etcd,
    EtcdConfig,
    Event,
    LeaseNotFound,
    Limits,
    Record,
    Txn,
    TxnResult,
    delete,
    delete_prefix,
    put,
)
from cilia.notify import Broadcast

_VALUE = 3  # Compare.CompareTarget
_NOTHING = Record("", b"", 0, 0)


class FakeEtcd(Etcd):
    """etcd in memory.

    Args:
        clock: Seconds, by which leases end.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.limits = Limits.of(EtcdConfig())
        self.revision = 1
        self.records: dict[str, Record] = {}
        self.away = False
        """While True, nothing answers."""
        self.failures: list[Failure | None] = []
        """Outcomes of the next transactions: a failure instead of it, or None to carry it out."""
        self.before_txn: list[Callable[[], object]] = []
        """Acts of others that come before the next transactions, one each."""
        self.transactions = 0
        self._clock = clock
        self._events: list[Event] = []
        self._past: dict[int, dict[str, Record]] = {1: {}}
        self._compacted = 0
        self._leases: dict[int, tuple[int, float]] = {}
        self._lease_ids = count(1)
        self._advanced = Broadcast()

    # acts and views of tests

    def set(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a key as another client does."""
        return self.apply(Txn((), (put(key, value, lease),))).revision

    def remove(self, key: str) -> int:
        """Remove a key as another client does."""
        return self.apply(Txn((), (delete(key),))).revision

    def value(self, key: str) -> bytes | None:
        """Return the value of a key."""
        self._end_leases()
        record = self.records.get(key)
        return None if record is None else record.value

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys with a prefix."""
        self._end_leases()
        return sorted(key for key in self.records if key.startswith(prefix))

    def forget_history(self) -> None:
        """Compact up to now."""
        self._compacted = self.revision

    def end_lease(self, lease: int) -> None:
        """End a lease as if its time was over."""
        self._leases.pop(lease, None)
        after, events = dict(self.records), list[Event]()
        self._delete(after, events, [record for record in self.records.values() if record.lease == lease])
        self._commit(after, events)

    def apply(self, txn: Txn) -> TxnResult:
        """Carry a transaction out."""
        request = txn.request()
        self.limits.check(request)
        holds = all(map(self._holds, request.compare))
        found: list[Record] = []
        after, events = dict(self.records), list[Event]()
        for op in request.success if holds else request.failure:
            kind = op.WhichOneof("request")
            part = getattr(op, kind)
            match kind:
                case "request_put":
                    if part.lease and part.lease not in self._leases:
                        raise LeaseNotFound(part.lease)
                    self._put(after, events, part.key.decode(), part.value, part.lease)
                case "request_range":
                    found += _within(after, part.key, part.range_end)
                case "request_delete_range":
                    self._delete(after, events, _within(after, part.key, part.range_end))
        self._commit(after, events)
        return TxnResult(holds, self.revision, tuple(found))

    # the client's interface

    async def get(self, key: str) -> Record | None:
        self._answer()
        return self.records.get(key)

    async def range(self, prefix: str, *, revision: int = 0, page: int = 0) -> tuple[list[Record], int]:
        self._answer()
        at = revision or self.revision
        if at < self._compacted:
            raise Compacted(at, self._compacted)
        records = self._past[at]
        return [records[key] for key in sorted(records) if key.startswith(prefix)], at

    async def txn(self, txn: Txn) -> TxnResult:
        self._answer()
        self.transactions += 1
        if self.before_txn:
            self.before_txn.pop(0)()
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        return self.apply(txn)

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        return (await self.txn(Txn((), (put(key, value, lease),)))).revision

    async def put_many(self, records: Iterable[tuple[str, bytes]], lease: int = 0) -> int:
        return (await self.txn(Txn((), [put(key, value, lease) for key, value in records]))).revision

    async def delete(self, key: str) -> int:
        return (await self.txn(Txn((), (delete(key),)))).revision

    async def delete_many(self, keys: Sequence[str]) -> None:
        await self.txn(Txn((), [delete(key) for key in keys]))

    async def delete_prefix(self, prefix: str) -> int:
        return (await self.txn(Txn((), (delete_prefix(prefix),)))).revision

    async def grant(self, ttl_seconds: int) -> int:
        self._answer()
        lease = next(self._lease_ids)
        self._leases[lease] = ttl_seconds, self._clock() + ttl_seconds
        return lease

    async def keep_alive(self, lease: int) -> int:
        self._answer()
        if lease not in self._leases:
            raise LeaseNotFound(lease)
        ttl_seconds, _ = self._leases[lease]
        self._leases[lease] = ttl_seconds, self._clock() + ttl_seconds
        return ttl_seconds

    async def revoke(self, lease: int) -> None:
        self._answer()
        self.end_lease(lease)

    async def watch(self, prefix: str, start: int) -> AsyncGenerator[Batch, None]:
        while True:
            if start <= self._compacted:
                raise Compacted(start, self._compacted)
            events = tuple(each for each in self._events if each.revision >= start and each.key.startswith(prefix))
            if events:
                first = tuple(each for each in events if each.revision == events[0].revision)
                start = first[0].revision + 1
                yield Batch(first[0].revision, first)
            else:
                await self._advanced.wait()

    # its state

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("etcd", "it is away")
        self._end_leases()

    def _end_leases(self) -> None:
        for lease in [lease for lease, (_, ends) in self._leases.items() if ends <= self._clock()]:
            self.end_lease(lease)

    def _holds(self, compare: Any) -> bool:
        records = _within(self.records, compare.key, compare.range_end)
        if not records and compare.target == _VALUE:
            return False
        return all(_compare(compare, record) for record in records or [_NOTHING])

    def _put(self, after: dict[str, Record], events: list[Event], key: str, value: bytes, lease: int) -> None:
        before = after.get(key)
        created = before.create_revision if before else self.revision + 1
        after[key] = Record(key, value, created, self.revision + 1, lease)
        events.append(Event(after[key], False))

    def _delete(self, after: dict[str, Record], events: list[Event], records: Sequence[Record]) -> None:
        for record in records:
            del after[record.key]
            events.append(Event(Record(record.key, b"", 0, self.revision + 1), True))

    def _commit(self, after: dict[str, Record], events: list[Event]) -> None:
        if events:
            self.revision += 1
            self.records = after
            self._events += events
            self._past[self.revision] = dict(after)
            self._advanced.notify()


def _within(records: Mapping[str, Record], key: bytes, end: bytes) -> list[Record]:
    """Return the records of a key, or of the range from it to before ``end``."""
    if not end:
        return [records[key.decode()]] if key.decode() in records else []
    return [records[name] for name in sorted(records) if key <= name.encode() and (end == b"\0" or name.encode() < end)]


def _compare(compare: Any, record: Record) -> bool:
    ours: tuple[Any]
    match compare.target:
        case 1:  # CREATE
            ours, wanted = (record.create_revision,), (compare.create_revision,)
        case 2:  # MOD
            ours, wanted = (record.mod_revision,), (compare.mod_revision,)
        case 3:  # VALUE
            ours, wanted = (record.value,), (compare.value,)
        case _:
            raise NotImplementedError
    match compare.result:
        case 0:  # EQUAL
            return bool(ours == wanted)
        case 1:  # GREATER
            return bool(ours > wanted)
        case 2:  # LESS
            return record.mod_revision < int(compare.mod_revision)
        case _:
            raise NotImplementedError
