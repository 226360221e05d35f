"""Cache of the identity service: etcd's keys folded into its tables. Pure; one loop writes it.

The cache may lag behind etcd. Nothing is decided from it alone: it proposes, a transaction
decides.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from cilia.contracts.identities import node_range, prefix_range
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.labels import from_canonical
from cilia.contracts.tables import (
    ENDPOINTS,
    IDENTITIES,
    PREFIXES,
    Endpoint,
    EndpointKey,
    IdentityRow,
    Node,
    PolicyObject,
    PrefixRow,
)
from cilia.owner.cache import RowChange
from services.identity.address_labels import node_labels, node_prefixes, prefix_labels, prefix_of

_ENDPOINT: Final = msgspec.json.Decoder(Endpoint)
_NODE: Final = msgspec.json.Decoder(Node)
_POLICY: Final = msgspec.json.Decoder(PolicyObject)


Change = RowChange[Any, Any]


class IdentityCache:
    """Identities, who uses them, and which await deletion."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.prefixes = (
            keys.identities,
            keys.identity_refs,
            keys.identities_unused,
            keys.endpoints,
            keys.policies,
            keys.nodes,
        )
        """Prefixes of the keys that it folds."""
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._numbers: dict[str, Identity] = {}
        self._created: dict[Identity, Revision] = {}
        self._uses: dict[str, Identity] = {}
        self._users: Counter[Identity] = Counter()
        self._marks: dict[Identity, Revision] = {}
        self._canonical: dict[Identity, str] = {}
        self._required_by: dict[str, tuple[str, ...]] = {}
        self._required: Counter[str] = Counter()
        self._nodes: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Key of a node -> its canonical labels and its addresses as prefixes."""
        self._node_of_address: dict[str, tuple[str, str]] = {}
        """Address of a node as a prefix -> the node's key and canonical labels."""

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
            if not self._users[identity] and self._canonical[identity] not in self._required
        }

    def missing(self) -> tuple[str, ...]:
        """Return canonical labels of policies' prefixes and of nodes without lasting identity."""
        return tuple(labels for labels in self._required if self._lasting(labels) is None)

    def _lasting(self, labels: str) -> Identity | None:
        """Return the identity of canonical labels, unless it is about to go."""
        identity = self._numbers.get(labels)
        return None if identity in self._marks else identity

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
            self._require(key, tuple(map(prefix_labels, _POLICY.decode(value).prefixes)))
        elif key.startswith(keys.nodes):
            row = _NODE.decode(value)
            return self._put_node(key, node_labels(row.labels), node_prefixes(row))
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
            self._require(key, ())
        elif key.startswith(keys.nodes):
            return self._put_node(key, "", ())
        return ()

    def _put_identity(self, identity: Identity, canonical: str, revision: Revision) -> tuple[Change, ...]:
        self._canonical[identity] = canonical
        self._numbers[canonical] = identity
        self._created[identity] = revision
        return (RowChange(IDENTITIES, identity, identity_row(canonical)), *self._prefix_changes(identity))

    def _delete_identity(self, identity: Identity) -> tuple[Change, ...]:
        prefixes = self._prefixes_of(identity)
        canonical = self._canonical.pop(identity, None)
        self._created.pop(identity, None)
        if canonical is not None and self._numbers.get(canonical) == identity:
            del self._numbers[canonical]
        return (RowChange(IDENTITIES, identity, None), *map(self._change_at, prefixes))

    def _prefix_changes(self, identity: Identity) -> tuple[Change, ...]:
        return tuple(map(self._change_at, self._prefixes_of(identity)))

    def _change_at(self, prefix: str) -> Change:
        """Return the prefix's row of now: a node's identity if it is one's address, or its own."""
        _, labels = self._node_of_address.get(prefix, ("", ""))
        identity = self._lasting(labels or prefix_labels(prefix))
        return RowChange(PREFIXES, prefix, None if identity is None else PrefixRow(identity))

    def _prefixes_of(self, identity: Identity) -> tuple[str, ...]:
        """Return the prefixes that an identity is of; none for those of pods."""
        canonical = self._canonical.get(identity, "")
        if identity in node_range():
            return tuple(prefix for prefix, (_, labels) in self._node_of_address.items() if labels == canonical)
        return (prefix_of(from_canonical(canonical)),) if canonical and identity in prefix_range() else ()

    def _put_node(self, key: str, labels: str, prefixes: tuple[str, ...]) -> tuple[Change, ...]:
        """Note the labels and addresses of a node; of one without labels, nothing."""
        node = (labels, prefixes) if labels else ("", ())
        _, before = former = self._nodes.pop(key, ("", ()))
        if labels:
            self._nodes[key] = node
        if node == former:
            return ()
        for prefix in before:
            if self._node_of_address.get(prefix, ("", ""))[0] == key:
                del self._node_of_address[prefix]
        self._node_of_address.update(dict.fromkeys(node[1], (key, labels)))
        self._require(key, (labels,) if labels else ())
        return tuple(map(self._change_at, {*before, *node[1]}))

    def _require(self, key: str, labels: tuple[str, ...]) -> None:
        """Note the canonical labels that need an identity on account of a policy or a node."""
        for each in self._required_by.pop(key, ()):
            self._required[each] -= 1
            if not self._required[each]:
                del self._required[each]
        if labels:
            self._required_by[key] = labels
            self._required.update(labels)

    def _put_endpoint(self, key: str, row: Endpoint) -> Change:
        self._begin_use(key, row.identity)
        return RowChange(ENDPOINTS, EndpointKey(row.node, row.id), row)

    def _delete_endpoint(self, key: str) -> Change:
        self._end_use(key)
        node, _, number = key.removeprefix(self._keys.endpoints).rpartition("/")
        return RowChange(ENDPOINTS, EndpointKey(NodeName(node), EndpointId(int(number))), None)

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
