"""What a replica of the identity service knows: etcd's keys folded into tables. Pure; one loop writes it.

The directory may lag behind etcd. Nothing is decided from it alone: it proposes, a transaction decides.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.identities import prefix_range
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.labels import from_canonical
from cilia.contracts.tables import Endpoint, EndpointKey, IdentityRow, PolicyObject, PrefixRow
from services.identity.prefixes import prefix_labels, prefix_of

_ENDPOINT: Final = msgspec.json.Decoder(Endpoint)
_POLICY: Final = msgspec.json.Decoder(PolicyObject)


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


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """A prefix has an identity that stays (``row``), or not any more (None)."""

    prefix: str
    row: PrefixRow | None


Change = IdentityChange | EndpointChange | PrefixChange


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
        self._named: dict[str, tuple[str, ...]] = {}
        self._namers: Counter[str] = Counter()

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
        return {
            identity: revision
            for identity, revision in self._created.items()
            if not self._users[identity] and self._canonical[identity] not in self._namers
        }

    def lacking(self) -> tuple[str, ...]:
        """Return the prefixes that policies name and that have no identity, or one that is about to go."""
        return tuple(prefix for prefix in set().union(*self._named.values()) if not self._stays(prefix))

    def _stays(self, prefix: str) -> bool:
        identity = self._numbers.get(prefix_labels(prefix))
        return identity is not None and identity not in self._marks

    def put(self, key: str, value: bytes, revision: Revision) -> Iterable[Change]:
        """Fold a written key in; return the changes of tables that it means."""
        keys = self._keys
        if key.startswith(keys.endpoints):
            return (self._put_endpoint(key, _ENDPOINT.decode(value)),)
        if key.startswith(keys.identities):
            return self._put_identity(Identity(int(key.removeprefix(keys.identities))), value.decode(), revision)
        if key.startswith(keys.identity_refs):
            self._begin_use(key, Identity(int(key.removeprefix(keys.identity_refs).partition("/")[0])))
        elif key.startswith(keys.identities_unused):
            identity = Identity(int(key.removeprefix(keys.identities_unused)))
            self._marks[identity] = revision
            return self._prefix_changes(identity)
        elif key.startswith(keys.policies):
            self._name(key, _POLICY.decode(value).prefixes)
        return ()

    def delete(self, key: str) -> Iterable[Change]:
        """Fold a deleted key in; return the changes of tables that it means."""
        keys = self._keys
        if key.startswith(keys.endpoints):
            return (self._delete_endpoint(key),)
        if key.startswith(keys.identities):
            return self._delete_identity(Identity(int(key.removeprefix(keys.identities))))
        if key.startswith(keys.identity_refs):
            self._end_use(key)
        elif key.startswith(keys.identities_unused):
            identity = Identity(int(key.removeprefix(keys.identities_unused)))
            self._marks.pop(identity, None)
            return self._prefix_changes(identity)
        elif key.startswith(keys.policies):
            self._name(key, ())
        return ()

    def _put_identity(self, identity: Identity, canonical: str, revision: Revision) -> tuple[Change, ...]:
        self._canonical[identity] = canonical
        self._numbers[canonical] = identity
        self._created[identity] = revision
        return (IdentityChange(identity, identity_row(canonical)), *self._prefix_changes(identity))

    def _delete_identity(self, identity: Identity) -> tuple[Change, ...]:
        prefix = self._prefix_of(identity)
        canonical = self._canonical.pop(identity, None)
        self._created.pop(identity, None)
        if canonical is not None and self._numbers.get(canonical) == identity:
            del self._numbers[canonical]
        gone = (PrefixChange(prefix, None),) if prefix else ()
        return (IdentityChange(identity, None), *gone)

    def _prefix_changes(self, identity: Identity) -> tuple[PrefixChange, ...]:
        prefix = self._prefix_of(identity)
        if not prefix:
            return ()
        return (PrefixChange(prefix, None if identity in self._marks else PrefixRow(identity)),)

    def _prefix_of(self, identity: Identity) -> str:
        """Return the prefix that an identity stands for; empty for those of pods."""
        if identity not in prefix_range() or identity not in self._canonical:
            return ""
        return prefix_of(from_canonical(self._canonical[identity]))

    def _name(self, key: str, prefixes: tuple[str, ...]) -> None:
        """Note which prefixes a policy names now."""
        self._namers.subtract(map(prefix_labels, self._named.pop(key, ())))
        if prefixes:
            self._named[key] = prefixes
            self._namers.update(map(prefix_labels, prefixes))
        self._namers = +self._namers

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
