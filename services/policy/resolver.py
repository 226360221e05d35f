"""The engine behind etcd's events: keys and rows become its events, its differences become rows of
RESOLVED.
"""

import gc
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.ids import Identity
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.protocols import TRANSPORTS
from cilia.contracts.tables import Endpoint, EndpointKey, PolicyEntry, PolicyObject, SubjectKey
from cilia.errors import Refused
from cilia.policy.engine import engine
from cilia.policy.engine.engine import Engine, Options
from cilia.policy.engine.rules import Policy
from cilia.policy.engine.selectors import NamedPortOf
from cilia.policy.errors import BadPolicy, PolicyError
from cilia.policy.explain.explanation import explain_flow
from cilia.policy.language.enforcement import KEY as ENFORCEMENT_KEY
from services.policy.capacity import Sizes, Wanted
from services.policy.decoded import Decoded
from services.policy.state import EndpointEvent, Event, IdentityEvent, PolicyEvent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rows(Mapping[str, Mapping[SubjectKey, PolicyEntry]]):
    """The rows of RESOLVED by shard, of the engine's state of now."""

    engine: Callable[[], Engine]

    def __getitem__(self, shard: str) -> Mapping[SubjectKey, PolicyEntry]:
        if not shard.isdecimal():
            raise KeyError(shard)
        subject = Identity(int(shard))
        return {SubjectKey(subject, key): entry for key, entry in self.engine().map_state(subject).items()}

    def __iter__(self) -> Iterator[str]:
        return map(str, self.engine().subjects)

    def __len__(self) -> int:
        return len(self.engine().subjects)


class EngineResolver:
    """Resolves policy with an :class:`~cilia.policy.engine.engine.Engine`; see
    :class:`services.policy.informer.Resolver`.
    """

    def __init__(self, options: Options | None = None, *, decoded: Decoded | None = None) -> None:
        self._options = options or Options(dual_stack=True)
        self._decoded = decoded or Decoded()
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._engine = Engine(self._options)
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._of_identity: defaultdict[Identity, set[EndpointKey]] = defaultdict(set)

    def load(self, events: Sequence[Event]) -> None:
        """Fold in all that there is."""
        self._engine.apply(self._translate(events))
        gc.collect()
        gc.freeze()  # looking through all of it would hold a change up for a second, and it has no cycles to find

    @property
    def rows(self) -> "Rows":
        """Resolved policy by shard, made when it is asked for: subjects under the same rules share
        what it is of.
        """
        return Rows(lambda: self._engine)

    def take(self, events: Sequence[Event]) -> dict[SubjectKey, PolicyEntry | None]:
        """Fold events in; return what that changes."""
        differences = self._engine.apply(self._translate(events))
        shared = {id(each): each for each in differences.values()}  # subjects under the same rules have the same
        rows = {name: each.rows for name, each in shared.items()}
        return {
            SubjectKey(subject, key): entry
            for subject, difference in differences.items()
            for key, entry in rows[id(difference)].items()
        }

    def size(self, subject: Identity) -> int:
        """Return how many entries a subject has."""
        return self._engine.size(subject)

    def try_sizes(self, wanted: Wanted) -> Sizes:
        """Tell what a change would do to the number of entries."""
        with self._tried(wanted) as changed:
            after = {subject: self._engine.size(subject) for subject in changed}
        return Sizes({subject: self._engine.size(subject) for subject in after}, after)

    def try_cookies(self, wanted: Wanted, subject: Identity) -> Counter[int]:
        """Tell how many entries of a subject each policy would have, by cookie."""
        with self._tried(wanted):
            return Counter(entry.cookie for entry in self._engine.map_state(subject).values())

    @contextmanager
    def _tried(self, wanted: Wanted) -> Iterator[Set[Identity]]:
        """Have the engine in another state for the block, which must not await; yields whom that
        changes.
        """
        undo: list[engine.Event] = [engine.PolicyPut(self._engine.policy(key)) for key in wanted]
        undo.append(engine.ModeSet(self._engine.mode, self._engine.audit))
        changed = self._engine.apply([self._put(key, row) for key, row in wanted.items()])
        try:
            yield changed.keys()
        finally:
            self._engine.apply(undo)

    def explain(self, request: ExplainFlow) -> Explained:
        """Tell why a flow is allowed or denied.

        Raises:
            Refused: An end or the port is unknown.
        """
        try:
            return explain_flow(self._engine, request, self._find_pod)
        except PolicyError as error:
            raise Refused(Problem(ProblemCode.NOT_FOUND, str(error))) from error

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
            parsed = self._decoded.of(row)
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


def _numbered(row: Endpoint) -> Iterator[tuple[str, int, int]]:
    """Give the named ports of an endpoint as (name, protocol number, port)."""
    for name, protocol, port in row.named_ports:
        if protocol.upper() in TRANSPORTS:
            yield name, TRANSPORTS[protocol.upper()], port
