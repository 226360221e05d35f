"""Errors of the kvstore.

::

    Unavailable (cilia.errors)   no endpoint answers in time; the same may succeed later
    KvstoreError
    +-- Compacted             the revision asked for is gone: read again
    +-- LeaseNotFound         the lease has expired or was revoked
    +-- TransactionTooLarge   more operations or bytes than etcd takes in one
    +-- LimitsDiffer          etcd takes less in one transaction than is configured here
    +-- NotAuthorised         user, password, certificate or permission
    +-- KvstoreRefused        any other refusal, with etcd's words
"""

from typing import ClassVar

from cilia.errors import Failure


class KvstoreError(Failure):
    """etcd said no."""


class Compacted(KvstoreError):
    """``revision`` is older than all that etcd keeps from ``oldest`` on, 0 if etcd didn't say."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} has been compacted away (oldest kept: {oldest})")
        self.revision = revision
        self.oldest = oldest


class LeaseNotFound(KvstoreError):
    """The lease has expired or was revoked; ``lease`` is 0 where etcd didn't say which."""

    def __init__(self, lease: int = 0) -> None:
        super().__init__(f"lease {lease or '(of the transaction)'} has expired")
        self.lease = lease


class TransactionTooLarge(KvstoreError):
    """A transaction has more than etcd takes in one: ``found`` and ``limit`` in words, such as
    ``200 operations``.
    """

    def __init__(self, found: str, limit: str) -> None:
        super().__init__(f"{found} in one transaction; etcd takes at most {limit}")
        self.found = found
        self.limit = limit


class LimitsDiffer(KvstoreError):
    """etcd refused a transaction that is within the configured limits, with ``details`` in its
    words.
    """

    def __init__(self, details: str) -> None:
        settings = "etcd.max_txn_ops and etcd.max_request_bytes"
        super().__init__(f"etcd takes less in one transaction than {settings} say: {details}")


class NotAuthorised(KvstoreError):
    """User, password, certificate or permission."""

    exit_code: ClassVar[int] = 2

    def __init__(self, user: str, details: str) -> None:
        super().__init__(f"etcd refuses user {user!r}: {details}")
        self.user = user


class KvstoreRefused(KvstoreError):
    """Any other refusal, with etcd's status and words."""

    def __init__(self, call: str, status: str, details: str) -> None:
        super().__init__(f"etcd refuses {call}: {details} ({status})")
        self.status = status
