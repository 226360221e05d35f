"""Limits of one transaction: configured on both sides, since etcd doesn't tell its own.

Looked at before a transaction is sent, so that what etcd would refuse is refused with numbers, and
a dry run hears it, too.
"""

from dataclasses import dataclass
from typing import Any, Final

from cilia.kvstore.config import EtcdConfig
from cilia.kvstore.errors import TransactionTooLarge

GROUP_OPERATIONS: Final = 128
"""Operations of transactions that go together, if etcd takes so many; more save no fsync."""
GROUP_BYTES: Final = 1_000_000
"""Bytes of transactions that go together, likewise."""
ENVELOPE_BYTES: Final = 512
"""Bytes that etcd adds to a transaction before it measures it: ids, the user's name
(server/etcdserver/v3_server.go).
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one transaction."""

    operations: int
    """Conditions, or operations of one branch.

    Nested ones are charged for their number and their longest list.
    """
    size_bytes: int
    """Size on the wire."""

    @classmethod
    def of(cls, config: EtcdConfig) -> "Limits":
        """Return what a configured etcd takes."""
        return cls(config.max_txn_ops, config.max_request_bytes - ENVELOPE_BYTES)

    @property
    def group(self) -> "Limits":
        """Return the limits of transactions that go together; a larger one goes alone."""
        return Limits(min(self.operations, GROUP_OPERATIONS), min(self.size_bytes, GROUP_BYTES))

    def check(self, request: Any) -> None:
        """Let a TxnRequest pass that etcd takes.

        Raises:
            TransactionTooLarge: It has too many operations or bytes; says how many, and the limit.
        """
        operations = depth(request)
        if operations > self.operations:
            raise TransactionTooLarge(f"{operations:,} operations", f"{self.operations:,} (max-txn-ops)")
        size = request.ByteSize()
        if size > self.size_bytes:
            limit = f"{self.size_bytes + ENVELOPE_BYTES:,} (max-request-bytes)"
            raise TransactionTooLarge(f"{size + ENVELOPE_BYTES:,} bytes", limit)


def depth(request: Any) -> int:
    """Return the length of a TxnRequest's longest list, which is what etcd counts."""
    return max(len(request.compare), len(request.success), len(request.failure))
