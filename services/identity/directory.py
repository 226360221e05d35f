"""What a replica of the identity service knows: etcd's keys folded into tables. Pure; one loop writes it.

The directory may lag behind etcd. Nothing is decided from it alone: it proposes, a transaction decides.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.labels import from_canonical
from cilia.contracts.tables import Endpoint, EndpointKey, IdentityRow

_ENDPOINT: Final = msgspec.json.Decoder(Endpoint)


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """An identity appeared (``row``) or went (None)."""

    identity: Identity
    row: IdentityRow | None


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """An endpoint appeared or changed (``row``), or went (None)."""

    key: EndpointKey
    row: Endpoint | None


Change = IdentityChange | EndpointChange


class Directory:
    """Identities, who uses them, and which await deletion."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._numbers: dict[str, Identity] = {}
        self._created: dict[Identity, Revision] = {}
        self._uses: dict[str, Identity] = {}
        self._users: Counter[Identity] = Counter()
        self._marks: dict[Identity, Revision] = {}
        self._canonical: dict[Identity, str] = {}

    @property
    def identities(self) -> Mapping[Identity, str]:
        """Number -> canonical labels."""
        return self._canonical

    @property
    def marks(self) -> Mapping[Identity, Revision]:
        """Identities marked as unused, and the revision of the mark."""
        return self._marks

    def number_of(self, canonical: str) -> Identity | None:
        """Return the number of a label set, if it has one."""
        return self._numbers.get(canonical)

    def users(self, identity: Identity) -> int:
        """Count the endpoints and references that use an identity."""
        return self._users[identity]

    def unused(self) -> dict[Identity, Revision]:
        """Return the identities that nobody uses, and the revision of each one's master key."""
        return {identity: revision for identity, revision in self._created.items() if not self._users[identity]}

    def put(self, key: str, value: bytes, revision: Revision) -> Change | None:
        """Fold a written key in; return the change of a table that it means."""
        keys = self._keys
        if key.startswith(keys.endpoints):
            return self._put_endpoint(key, _ENDPOINT.decode(value))
        if key.startswith(keys.identities):
            return self._put_identity(Identity(int(key.removeprefix(keys.identities))), value.decode(), revision)
        if key.startswith(keys.identity_refs):
            self._begin_use(key, Identity(int(key.removeprefix(keys.identity_refs).partition("/")[0])))
        elif key.startswith(keys.identities_unused):
            self._marks[Identity(int(key.removeprefix(keys.identities_unused)))] = revision
        return None

    def delete(self, key: str) -> Change | None:
        """Fold a deleted key in; return the change of a table that it means."""
        keys = self._keys
        if key.startswith(keys.endpoints):
            return self._delete_endpoint(key)
        if key.startswith(keys.identities):
            return self._delete_identity(Identity(int(key.removeprefix(keys.identities))))
        if key.startswith(keys.identity_refs):
            self._end_use(key)
        elif key.startswith(keys.identities_unused):
            self._marks.pop(Identity(int(key.removeprefix(keys.identities_unused))), None)
        return None

    def _put_identity(self, identity: Identity, canonical: str, revision: Revision) -> IdentityChange:
        self._canonical[identity] = canonical
        self._numbers[canonical] = identity
        self._created[identity] = revision
        return IdentityChange(identity, identity_row(canonical))

    def _delete_identity(self, identity: Identity) -> IdentityChange:
        canonical = self._canonical.pop(identity, None)
        self._created.pop(identity, None)
        if canonical is not None and self._numbers.get(canonical) == identity:
            del self._numbers[canonical]
        return IdentityChange(identity, None)

    def _put_endpoint(self, key: str, row: Endpoint) -> EndpointChange:
        self._begin_use(key, row.identity)
        return EndpointChange(EndpointKey(row.node, row.id), row)

    def _delete_endpoint(self, key: str) -> EndpointChange:
        self._end_use(key)
        node, _, number = key.removeprefix(self._keys.endpoints).rpartition("/")
        return EndpointChange(EndpointKey(NodeName(node), EndpointId(int(number))), None)

    def _begin_use(self, key: str, identity: Identity) -> None:
        self._end_use(key)
        self._uses[key] = identity
        self._users[identity] += 1

    def _end_use(self, key: str) -> None:
        identity = self._uses.pop(key, None)
        if identity is None:
            return
        self._users[identity] -= 1
        if not self._users[identity]:
            del self._users[identity]


def identity_row(canonical: str) -> IdentityRow:
    """Return the row of a label set: its labels as text, sorted."""
    return IdentityRow(tuple(sorted(map(str, from_canonical(canonical)))))
