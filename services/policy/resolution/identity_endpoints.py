"""Addresses and named ports of the pods of each identity, counted: a pod that comes or goes costs
what it brings, however many share its identity. Pure.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cilia.contracts.ids import Identity
from cilia.contracts.protocols import TRANSPORTS
from cilia.contracts.tables import Endpoint, EndpointKey
from cilia.policy.engine.events import EndpointsChanged
from cilia.policy.engine.selectors import ContainerPort
from services.policy.resolution.events import EndpointEvent

T = TypeVar("T")


@dataclass(slots=True)
class _Held:
    """Addresses and ports of one identity, each with how many of its endpoints have it."""

    endpoints: int = 0
    addresses: Counter[str] = field(default_factory=Counter)
    ports: Counter[ContainerPort] = field(default_factory=Counter)

    def count(self, row: Endpoint, step: int) -> None:
        """Count what an endpoint has, or (-1) that it has it no more."""
        self.endpoints += step
        for address in filter(None, (row.ipv4, row.ipv6)):
            _count(self.addresses, address, step)
        for port in _numbered(row):
            _count(self.ports, port, step)


class IdentityEndpoints:
    """Endpoints by key, and what they add up to by identity."""

    def __init__(self) -> None:
        self._rows: dict[EndpointKey, Endpoint] = {}
        self._held: dict[Identity, _Held] = {}

    @property
    def rows(self) -> Collection[Endpoint]:
        """Rows of all endpoints."""
        return self._rows.values()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._rows.clear()
        self._held.clear()

    def take(self, events: Sequence[EndpointEvent]) -> Iterator[EndpointsChanged]:
        """Fold endpoints' changes in; yield what the identities that they concern have now."""
        concerned = dict[Identity, None]()
        for event in events:
            before = self._rows.pop(event.key, None)
            for row, step in ((before, -1), (event.row, 1)):
                if row is not None:
                    self._held.setdefault(row.identity, _Held()).count(row, step)
                    concerned[row.identity] = None
            if event.row is not None:
                self._rows[event.key] = event.row
        for identity in concerned:
            held = self._held[identity]
            if not held.endpoints:
                del self._held[identity]
            yield EndpointsChanged(identity, frozenset(held.addresses), frozenset(held.ports))


def _count(counter: Counter[T], item: T, step: int) -> None:
    counter[item] += step
    if not counter[item]:
        del counter[item]


def _numbered(row: Endpoint) -> Iterator[ContainerPort]:
    """Yield the named ports of an endpoint; each once."""
    for name, protocol, port in set(row.named_ports):
        if protocol.upper() in TRANSPORTS:
            yield ContainerPort(name, TRANSPORTS[protocol.upper()], port)
