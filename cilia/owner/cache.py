"""Cache of etcd in a service, without I/O: keys in, changes of its tables' rows out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cilia.contracts.ids import Revision
from cilia.contracts.tables import Table

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class RowChange(Generic[K, V]):
    """A row of a table that appeared or changed, or went (None)."""

    table: Table[K, V]
    key: K
    row: V | None


class Cache(Protocol):
    """A service's view of etcd: keys folded into what its tables and its decisions need."""

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        ...

    def put(self, key: str, value: bytes, revision: Revision) -> Iterable[RowChange[Any, Any]]:
        """Fold a written key in; return the changes of tables that it means."""
        ...

    def delete(self, key: str) -> Iterable[RowChange[Any, Any]]:
        """Fold a deleted key in; return the changes of tables that it means."""
        ...
