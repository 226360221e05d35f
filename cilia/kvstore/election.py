"""Election of the one replica of a service that publishes.

The leader's key hangs on a lease; whoever creates it leads until the lease is gone. Two leaders for
a moment do no harm to what is built on this (tables: rows carry the newest state), so a leader that
can't reach etcd steps down by its own clock and no fencing is needed.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from cilia.errors import Unavailable
from cilia.kvstore.client import Etcd
from cilia.kvstore.errors import LeaseNotFound
from cilia.kvstore.operations import Txn, absent, put

log = logging.getLogger(__name__)


class Election:
    """One candidacy for ``key``; ``leading`` tells how it stands."""

    def __init__(
        self, etcd: Etcd, key: str, name: str, *, ttl_seconds: int = 5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._etcd = etcd
        self._key = key
        self._name = name
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._until = -1.0

    @property
    def leading(self) -> bool:
        """True while this replica leads, as far as it can know."""
        return self._clock() < self._until

    async def run(self) -> None:
        """Stand for election and hold office, until cancelled; then step down at once."""
        lease = 0
        try:
            while True:
                try:
                    lease = await self._campaign(lease)
                except LeaseNotFound:
                    lease, self._until = 0, -1.0
                except Unavailable as error:
                    log.warning("election for %s: %s", self._key, error)
                await asyncio.sleep(self._ttl_seconds / 5 * random.uniform(0.8, 1.0))
        finally:
            self._until = -1.0
            if lease:
                await self._resign(lease)

    async def _campaign(self, lease: int) -> int:
        started = self._clock()
        if lease:
            await self._etcd.keep_alive(lease)
        else:
            lease = await self._etcd.grant(self._ttl_seconds)
        if not self.leading:
            won = await self._etcd.txn(Txn((absent(self._key),), (put(self._key, self._name.encode(), lease),)))
            holder = None if won.succeeded else await self._etcd.get(self._key)
            if not won.succeeded and (holder is None or holder.lease != lease):
                return lease
            log.info("%s leads %s", self._name, self._key)
        self._until = started + self._ttl_seconds
        return lease

    async def _resign(self, lease: int) -> None:
        try:
            async with asyncio.timeout(1):
                await self._etcd.revoke(lease)
        except (Unavailable, TimeoutError):
            log.info("the lease of %s runs out by itself", self._key)
