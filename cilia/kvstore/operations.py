"""Parts of a transaction: conditions, operations, and their results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cilia.kvstore.schema import message

_EQUAL: Final = 0  # Compare.CompareResult
_GREATER: Final = 1
_LESS: Final = 2
_VERSION, _CREATE, _MOD, _VALUE = 0, 1, 2, 3  # Compare.CompareTarget


@dataclass(frozen=True, slots=True)
class Record:
    """A key and its value, as of a revision."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0
    """0: none."""

    @classmethod
    def read(cls, kv: Any) -> "Record":
        """Read etcd's KeyValue."""
        return cls(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one key: ``record`` is the new state, or of a removal the key and the revision
    that removed it.
    """

    record: Record
    removed: bool

    @property
    def key(self) -> str:
        """The key that changed."""
        return self.record.key

    @property
    def revision(self) -> int:
        """The revision that did it."""
        return self.record.mod_revision


@dataclass(frozen=True, slots=True)
class Op:
    """One operation, as etcd's RequestOp."""

    request: Any


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition, as etcd's Compare."""

    request: Any


@dataclass(frozen=True, slots=True)
class Txn:
    """If all of ``compares`` hold then ``success``, else ``failure``; at one revision."""

    compares: Sequence[Compare]
    success: Sequence[Op]
    failure: Sequence[Op] = ()

    def request(self) -> Any:
        """Return etcd's TxnRequest."""
        return message("TxnRequest")(
            compare=[compare.request for compare in self.compares],
            success=[op.request for op in self.success],
            failure=[op.request for op in self.failure],
        )


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Result of a transaction; ``records`` are those that its reads found, in order."""

    succeeded: bool
    revision: int
    records: tuple[Record, ...]

    @classmethod
    def read(cls, response: Any, revision: int) -> "TxnResult":
        """Read etcd's TxnResponse; one nested in a group takes the group's revision."""
        found = [Record.read(kv) for part in response.responses for kv in part.response_range.kvs]
        return cls(response.succeeded, revision, tuple(found))

    def value(self, key: str) -> bytes | None:
        """Return the value that a read of the transaction found for ``key``."""
        return next((record.value for record in self.records if record.key == key), None)


def prefix_end(prefix: str) -> bytes:
    """Return the first key after all that begin with ``prefix``."""
    raw = prefix.encode()
    if not raw:
        return b"\0"
    return raw[:-1] + bytes([raw[-1] + 1])


def get(key: str) -> Op:
    """Read a key."""
    return Op(message("RequestOp")(request_range=message("RangeRequest")(key=key.encode())))


def get_prefix(prefix: str, limit: int = 0) -> Op:
    """Read what begins with ``prefix``; ``limit`` 0 reads all."""
    request = message("RangeRequest")(key=prefix.encode(), range_end=prefix_end(prefix), limit=limit)
    return Op(message("RequestOp")(request_range=request))


def put(key: str, value: bytes, lease: int = 0) -> Op:
    """Write a key, to go with ``lease`` unless that is 0."""
    return Op(message("RequestOp")(request_put=message("PutRequest")(key=key.encode(), value=value, lease=lease)))


def delete(key: str) -> Op:
    """Remove a key."""
    return Op(message("RequestOp")(request_delete_range=message("DeleteRangeRequest")(key=key.encode())))


def delete_prefix(prefix: str) -> Op:
    """Remove what begins with ``prefix``."""
    request = message("DeleteRangeRequest")(key=prefix.encode(), range_end=prefix_end(prefix))
    return Op(message("RequestOp")(request_delete_range=request))


def created_at(key: str, revision: int) -> Compare:
    """The key exists, and has done so since ``revision`` made it."""
    return Compare(message("Compare")(result=_EQUAL, target=_CREATE, key=key.encode(), create_revision=revision))


def absent(key: str) -> Compare:
    """The key doesn't exist."""
    return created_at(key, 0)


def present(key: str) -> Compare:
    """The key exists."""
    return Compare(message("Compare")(result=_GREATER, target=_CREATE, key=key.encode(), create_revision=0))


def absent_prefix(prefix: str) -> Compare:
    """No key begins with ``prefix``: etcd applies the condition to each key of the range, and there
    is none.
    """
    request = message("Compare")(result=_EQUAL, target=_CREATE, key=prefix.encode(), create_revision=0)
    request.range_end = prefix_end(prefix)
    return Compare(request)


def unchanged(key: str, mod_revision: int) -> Compare:
    """The key was last written at ``mod_revision``."""
    return Compare(message("Compare")(result=_EQUAL, target=_MOD, key=key.encode(), mod_revision=mod_revision))


def unchanged_prefix(prefix: str, revision: int) -> Compare:
    """Nothing that begins with ``prefix`` was written after ``revision``; a removal is not seen."""
    request = message("Compare")(result=_LESS, target=_MOD, key=prefix.encode(), mod_revision=revision + 1)
    request.range_end = prefix_end(prefix)
    return Compare(request)


def value_is(key: str, value: bytes) -> Compare:
    """The key exists with this value."""
    return Compare(message("Compare")(result=_EQUAL, target=_VALUE, key=key.encode(), value=value))
