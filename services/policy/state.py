"""What a replica of the policy service knows of etcd, and how a change of a key becomes an event.

Pure.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Cause, Keys
from cilia.contracts.labels import Labels, from_canonical
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyObject

_ENDPOINT: Final = msgspec.json.Decoder(Endpoint)
_POLICY: Final = msgspec.json.Decoder(PolicyObject)
_CAUSE: Final = msgspec.json.Decoder(Cause)


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """A policy was applied (``row``) or deleted (None)."""

    key: str
    row: PolicyObject | None


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """An identity appeared (``labels``) or went (None)."""

    identity: Identity
    labels: Labels | None


@dataclass(frozen=True, slots=True)
class EndpointEvent:
    """An endpoint appeared or changed (``row``), or went (None)."""

    key: EndpointKey
    row: Endpoint | None


@dataclass(frozen=True, slots=True)
class CauseEvent:
    """Why policies changed at this revision."""

    cause: Cause


Event = PolicyEvent | IdentityEvent | EndpointEvent | CauseEvent


def read_event(keys: Keys, key: str, value: bytes | None) -> Event | None:
    """Read a change of a key (None: it was deleted); None for keys that policy doesn't depend on."""
    if key.startswith(keys.policies):
        return PolicyEvent(key.removeprefix(keys.policies), None if value is None else _POLICY.decode(value))
    if key.startswith(keys.identities):
        identity = Identity(int(key.removeprefix(keys.identities)))
        return IdentityEvent(identity, None if value is None else from_canonical(value.decode()))
    if key == keys.policy_cause:
        return None if value is None else CauseEvent(_CAUSE.decode(value))
    if key.startswith(keys.endpoints):
        node, _, number = key.removeprefix(keys.endpoints).rpartition("/")
        place = EndpointKey(NodeName(node), EndpointId(int(number)))
        return EndpointEvent(place, None if value is None else _ENDPOINT.decode(value))
    return None


@dataclass(frozen=True, slots=True)
class Stored:
    """A policy in etcd, and the revision that last changed it."""

    row: PolicyObject
    revision: Revision


class Places:
    """Where the endpoints of each identity live."""

    def __init__(self) -> None:
        self._identities: dict[EndpointKey, Identity] = {}
        self._counts: dict[Identity, dict[NodeName, int]] = {}
        self._on: dict[NodeName, set[Identity]] = {}

    @property
    def counts(self) -> Mapping[Identity, Mapping[NodeName, int]]:
        """Identity -> node -> how many endpoints."""
        return self._counts

    @property
    def nodes(self) -> Set[NodeName]:
        """Nodes that have endpoints."""
        return self._on.keys()

    def on(self, node: NodeName) -> Set[Identity]:
        """Return the identities that have endpoints on a node."""
        return self._on.get(node, frozenset())

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._identities.clear()
        self._counts.clear()
        self._on.clear()

    def take(self, event: EndpointEvent) -> None:
        """Fold an endpoint's change in."""
        before = self._identities.pop(event.key, None)
        if before is not None:
            self._leave(before, event.key.node)
        if event.row is not None:
            self._identities[event.key] = event.row.identity
            nodes = self._counts.setdefault(event.row.identity, {})
            nodes[event.key.node] = nodes.get(event.key.node, 0) + 1
            self._on.setdefault(event.key.node, set()).add(event.row.identity)

    def _leave(self, identity: Identity, node: NodeName) -> None:
        nodes = self._counts[identity]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
            self._on[node].discard(identity)
            if not self._on[node]:
                del self._on[node]
        if not nodes:
            del self._counts[identity]
