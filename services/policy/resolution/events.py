"""Events of etcd that resolved policy depends on: policies, identities, endpoints. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from cilia.contracts.ids import EndpointId, Identity, NodeName
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
    """Cause of the change of policies at this revision."""

    cause: Cause


Event = PolicyEvent | IdentityEvent | EndpointEvent | CauseEvent


def read_event(keys: Keys, key: str, value: bytes | None) -> Event | None:
    """Read a change of a key (None: deleted); None where policy doesn't depend on it."""
    if key.startswith(keys.policies):
        return PolicyEvent(key.removeprefix(keys.policies), None if value is None else _POLICY.decode(value))
    if key.startswith(keys.identities):
        identity = Identity(int(key.removeprefix(keys.identities)))
        return IdentityEvent(identity, None if value is None else from_canonical(value.decode()))
    if key == keys.policy_cause:
        return None if value is None else CauseEvent(_CAUSE.decode(value))
    if key.startswith(keys.endpoints):
        node, _, number = key.removeprefix(keys.endpoints).rpartition("/")
        endpoint = EndpointKey(NodeName(node), EndpointId(int(number)))
        return EndpointEvent(endpoint, None if value is None else _ENDPOINT.decode(value))
    return None


def identities_of(events: Iterable[Event]) -> Iterator[Identity]:
    """Yield the identities that came, changed, or have endpoints that did."""
    for event in events:
        match event:
            case IdentityEvent(identity, _):
                yield identity
            case EndpointEvent(_, row) if row is not None:
                yield row.identity
            case _:
                pass
