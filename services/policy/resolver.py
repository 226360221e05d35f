"""The engine behind etcd's events: keys and rows become its events, its differences become rows of RESOLVED."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.ids import Identity
from cilia.contracts.messages import Problem
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyEntry, PolicyObject, SubjectKey
from cilia.errors import Refused
from cilia.policy import engine
from cilia.policy.engine import Engine, Options
from cilia.policy.errors import BadPolicy, PolicyError
from cilia.policy.explanation import explain_flow
from cilia.policy.language.enforcement import KEY as ENFORCEMENT_KEY
from cilia.policy.language.parse import decode_object
from cilia.policy.rules import Policy
from cilia.policy.selectors import NamedPortOf
from services.policy.state import EndpointEvent, Event, IdentityEvent, PolicyEvent

log = logging.getLogger(__name__)


class EngineResolver:
    """Resolves policy with an :class:`~cilia.policy.engine.Engine`; see :class:`services.policy.mirror.Resolver`."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._engine = Engine(self._options)
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._of_identity: defaultdict[Identity, set[EndpointKey]] = defaultdict(set)
        self._is_fresh = True

    def take(self, events: Sequence[Event]) -> dict[SubjectKey, PolicyEntry | None]:
        """Fold events in; return what that changes, and the first time everything."""
        differences = self._engine.apply(self._translate(events))
        if self._is_fresh:
            self._is_fresh = False
            return {
                SubjectKey(subject, key): entry
                for subject in self._engine.subjects
                for key, entry in self._engine.map_state(subject).items()
            }
        changed: dict[SubjectKey, PolicyEntry | None] = {}
        for subject, difference in differences.items():
            changed.update((SubjectKey(subject, key), None) for key in difference.removes)
            changed.update((SubjectKey(subject, key), entry) for key, entry in difference.upserts.items())
        return changed

    def explain(self, request: ExplainFlow) -> Explained:
        """Tell why a flow is allowed or denied.

        Raises:
            Refused: An end or the port is unknown.
        """
        try:
            return explain_flow(self._engine, request, self._find_pod)
        except PolicyError as error:
            raise Refused(Problem("not_found", str(error))) from error

    def _find_pod(self, name: str) -> Identity | None:
        return next((row.identity for row in self._endpoints.values() if f"{row.namespace}/{row.name}" == name), None)

    def _translate(self, events: Iterable[Event]) -> Iterator[engine.Event]:
        moved: set[Identity] = set()
        for event in events:
            match event:
                case PolicyEvent(key, row):
                    yield self._put(key, row)
                case IdentityEvent(identity, None):
                    yield engine.IdentityRemoved(identity)
                case IdentityEvent(identity, labels) if labels is not None:
                    yield engine.IdentityPut(identity, labels)
                case EndpointEvent():
                    moved |= self._move(event)
        yield from map(self._endpoints_of, moved)

    def _put(self, key: str, row: PolicyObject | None) -> engine.Event:
        if row is None:
            return engine.ModeSet(self._options.mode) if key == ENFORCEMENT_KEY else engine.PolicyRemoved(key)
        try:
            parsed = decode_object(row)
        except BadPolicy as error:  # another version accepted it: no rule of ours, so nothing opens
            log.error("policy %s can't be enforced: %s", key, error)
            return engine.PolicyPut(Policy(key, ()))
        if parsed.enforcement is not None:
            return engine.ModeSet(parsed.enforcement.mode, parsed.enforcement.audit)
        return engine.PolicyPut(parsed.policy)

    def _move(self, event: EndpointEvent) -> set[Identity]:
        """Take note of an endpoint; returns the identities that it concerns."""
        concerned = set()
        before = self._endpoints.pop(event.key, None)
        if before is not None:
            self._of_identity[before.identity].discard(event.key)
            concerned.add(before.identity)
        if event.row is not None:
            self._endpoints[event.key] = event.row
            self._of_identity[event.row.identity].add(event.key)
            concerned.add(event.row.identity)
        return concerned

    def _endpoints_of(self, identity: Identity) -> engine.EndpointsChanged:
        rows = [self._endpoints[key] for key in self._of_identity[identity]]
        if not rows:
            del self._of_identity[identity]
        addresses = frozenset(address for row in rows for address in (row.ipv4, row.ipv6) if address)
        ports = frozenset(NamedPortOf(*port) for row in rows for port in _numbered(row))
        return engine.EndpointsChanged(identity, addresses, ports)


_PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}


def _numbered(row: Endpoint) -> Iterator[tuple[str, int, int]]:
    """Give the named ports of an endpoint as (name, protocol number, port)."""
    for name, protocol, port in row.named_ports:
        if protocol.upper() in _PROTOCOLS:
            yield name, _PROTOCOLS[protocol.upper()], port
