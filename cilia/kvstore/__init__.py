"""etcd, the truth: everything durable is a key here, written by its one owner in transactions.

Our own client of the etcd v3 API on grpc.aio: every other Python client that was measured loses
events when etcd dies.
"""

from cilia.kvstore.client import Etcd, connect_kvstore
from cilia.kvstore.config import EtcdConfig
from cilia.kvstore.election import Election
from cilia.kvstore.errors import (
    Compacted,
    KvstoreError,
    KvstoreRefused,
    LeaseNotFound,
    LimitsDiffer,
    NotAuthorised,
    TransactionTooLarge,
)
from cilia.kvstore.limits import Limits
from cilia.kvstore.operations import (
    Compare,
    Event,
    Op,
    Record,
    Txn,
    TxnResult,
    absent,
    absent_prefix,
    created_at,
    delete,
    delete_prefix,
    get,
    get_prefix,
    present,
    put,
    unchanged,
    unchanged_prefix,
    value_is,
)
from cilia.kvstore.replica import Changes, Reset, replicate
from cilia.kvstore.watch import Batch

__all__ = [
    "Batch",
    "Changes",
    "Compacted",
    "Compare",
    "Election",
    "Etcd",
    "EtcdConfig",
    "Event",
    "KvstoreError",
    "KvstoreRefused",
    "LeaseNotFound",
    "Limits",
    "LimitsDiffer",
    "NotAuthorised",
    "Op",
    "Record",
    "Reset",
    "TransactionTooLarge",
    "Txn",
    "TxnResult",
    "absent",
    "absent_prefix",
    "connect_kvstore",
    "created_at",
    "delete",
    "delete_prefix",
    "get",
    "get_prefix",
    "present",
    "put",
    "replicate",
    "unchanged",
    "unchanged_prefix",
    "value_is",
]
