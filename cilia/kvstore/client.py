"""The etcd v3 client: reads, transactions, leases, watches.

Thin on purpose: etcd's semantics under typed names, and what a client must add so that nothing is
lost: paging at one revision, group commit, resumption (:mod:`cilia.kvstore.watch`), bounded time.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from cilia.kvstore.channel import Channel
from cilia.kvstore.config import EtcdConfig
from cilia.kvstore.errors import Compacted, LeaseNotFound
from cilia.kvstore.group_commit import GroupCommit
from cilia.kvstore.limits import Limits
from cilia.kvstore.operations import Op, Record, Txn, TxnResult, delete, delete_prefix, prefix_end, put
from cilia.kvstore.schema import message
from cilia.kvstore.watch import Batch, watch

PAGE: Final = 20_000
"""Records of one page.

etcd counts the rest of the range for each page, so small pages cost quadratic time.
"""


class Etcd:
    """A connection to etcd; made by :func:`connect_kvstore`."""

    def __init__(self, channel: Channel, group: GroupCommit, limits: Limits) -> None:
        self._channel = channel
        self._group = group
        self.limits = limits

    async def get(self, key: str) -> Record | None:
        """Read one key."""
        response = await self._range(message("RangeRequest")(key=key.encode()))
        return Record.read(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: str, *, revision: int = 0, page: int = PAGE) -> tuple[list[Record], int]:
        """Read all keys that begin with ``prefix``, as of ``revision`` (0: now), and that revision.

        Raises:
            Compacted: The revision is no longer kept.
        """
        records: list[Record] = []
        start, end = prefix.encode(), prefix_end(prefix)
        while True:
            request = message("RangeRequest")(key=start, range_end=end, limit=page, revision=revision)
            response = await self._range(request)
            revision = revision or response.header.revision
            records.extend(map(Record.read, response.kvs))
            if not response.more:
                return records, revision
            start = response.kvs[-1].key + b"\0"

    async def txn(self, txn: Txn) -> TxnResult:
        """Carry a transaction out, maybe together with others (:mod:`cilia.kvstore.group_commit`).

        Raises:
            Unavailable: No endpoint answered; it may have been carried out.
            TransactionTooLarge: It has more operations or bytes than etcd takes; it was not carried
                out.
            LeaseNotFound: It puts under a lease that has expired.
        """
        return await self._group.commit(txn)

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a key; returns the revision."""
        return (await self.txn(Txn((), (put(key, value, lease),)))).revision

    async def put_many(self, records: Iterable[tuple[str, bytes]], lease: int = 0) -> int:
        """Write distinct keys, many to a transaction; returns the last revision."""
        revision, part, size, limits = 0, list[Op](), 0, self.limits.group
        for key, value in records:
            if part and (len(part) == limits.operations or size + len(value) > limits.size_bytes):
                revision = (await self.txn(Txn((), part))).revision
                part, size = [], 0
            part.append(put(key, value, lease))
            size += len(key) + len(value)
        return (await self.txn(Txn((), part))).revision if part else revision

    async def delete(self, key: str) -> int:
        """Remove a key if it exists; returns the revision."""
        return (await self.txn(Txn((), (delete(key),)))).revision

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove keys, many to a transaction."""
        most = self.limits.group.operations
        for first in range(0, len(keys), most):
            await self.txn(Txn((), [delete(key) for key in keys[first : first + most]]))

    async def delete_prefix(self, prefix: str) -> int:
        """Remove what begins with ``prefix``; returns the revision."""
        return (await self.txn(Txn((), (delete_prefix(prefix),)))).revision

    def watch(self, prefix: str, start: int) -> AsyncGenerator[Batch, None]:
        """Yield what happens below ``prefix`` from revision ``start`` on
        (:func:`cilia.kvstore.watch.watch`).
        """
        return watch(self._channel, prefix, start)

    async def grant(self, ttl_seconds: int) -> int:
        """Make a lease; returns its id."""
        reply = await self._call(
            "Lease/LeaseGrant", message("LeaseGrantRequest")(TTL=ttl_seconds), "LeaseGrantResponse"
        )
        return int(reply.ID)

    async def keep_alive(self, lease: int) -> int:
        """Extend a lease once; returns the seconds that it now has.

        Raises:
            LeaseNotFound: It has expired.
        """
        request = message("LeaseKeepAliveRequest")(ID=lease)
        seconds = await self._channel.exchange("Lease/LeaseKeepAlive", request, "LeaseKeepAliveResponse")
        if seconds.TTL <= 0:
            raise LeaseNotFound(lease)
        return int(seconds.TTL)

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys; one that is gone already is fine."""
        try:
            await self._call("Lease/LeaseRevoke", message("LeaseRevokeRequest")(ID=lease), "LeaseRevokeResponse")
        except LeaseNotFound:
            return

    async def time_to_live(self, lease: int) -> int:
        """Return the seconds that a lease still has; -1 once it has expired."""
        request = message("LeaseTimeToLiveRequest")(ID=lease)
        reply = await self._call("Lease/LeaseTimeToLive", request, "LeaseTimeToLiveResponse")
        return int(reply.TTL)

    async def compact(self, revision: int) -> None:
        """Forget the history before ``revision``; what is forgotten already is fine."""
        request = message("CompactionRequest")(revision=revision, physical=True)
        try:
            await self._call("KV/Compact", request, "CompactionResponse")
        except Compacted:
            return

    async def status(self) -> tuple[str, int]:
        """Return the version of the server that answers, and the cluster's id."""
        reply = await self._call("Maintenance/Status", message("StatusRequest")(), "StatusResponse")
        return str(reply.version), int(reply.header.cluster_id)

    async def _range(self, request: Any) -> Any:
        try:
            return await self._call("KV/Range", request, "RangeResponse")
        except Compacted as error:
            raise Compacted(request.revision, error.oldest) from error

    async def _call(self, method: str, request: Any, reply: str) -> Any:
        return await self._channel.call(method, request, reply, idempotent=True)


@asynccontextmanager
async def connect_kvstore(config: EtcdConfig) -> AsyncIterator[Etcd]:
    """Connect to etcd and see that it answers.

    Raises:
        Unavailable: No endpoint answers in time.
        NotAuthorised: The user, password or certificate is wrong.
    """
    channel = Channel(config)

    async def send(request: Any) -> Any:
        return await channel.call("KV/Txn", request, "TxnResponse", idempotent=False)

    limits = Limits.of(config)
    group = GroupCommit(send, limits)
    try:
        await channel.authenticate()
        etcd = Etcd(channel, group, limits)
        await etcd.status()
        sender = asyncio.create_task(group.run(), name="kvstore group commit")
        try:
            yield etcd
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender
    finally:
        await channel.close()
