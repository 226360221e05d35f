"""Epoch: the name of etcd's history, which the rows of tables carry."""

import time
from collections.abc import Callable

from cilia.contracts.keys import Keys
from cilia.kvstore import Etcd, Txn, absent, get, put


async def ensure_epoch(etcd: Etcd, keys: Keys, clock: Callable[[], float] = time.time) -> int:
    """Return the name of etcd's history: the Unix time, in seconds, at which a service first asked.

    An etcd that lost its data so begins a greater epoch by itself. After a restore from a backup,
    delete the key and restart the services: revisions of before and after must not be mixed.
    """
    now = str(int(clock())).encode()
    outcome = await etcd.txn(Txn((absent(keys.epoch),), (put(keys.epoch, now),), (get(keys.epoch),)))
    return int(now if outcome.succeeded else outcome.value(keys.epoch) or b"1")
