"""Resolver of policy: etcd's events become the engine's, and its differences rows of RESOLVED.

A change is tried on the engine before it is stored. What that resolved is kept: if the change is
the next thing that etcd tells of, it is in force as it was tried, and nothing is resolved again.
Changes that are under way at once are tried on top of each other, and each is in force as it was
tried if they come in that order. Whatever else comes first has all trials taken back.

A prefix that a change names and that has no identity yet, as in a dry run, is tried with a
provisional one, so that its entries count. Such a trial is never put in force.
"""

import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from cilia.contracts.explanations import Explained, ExplainFlow
from cilia.contracts.identities import PREFIX_SCOPE, PROVISIONAL_SCOPE
from cilia.contracts.ids import Identity
from cilia.contracts.messages import Problem, ProblemCode
from cilia.contracts.tables import Node, PolicyEntry, PolicyObject, SubjectKey
from cilia.errors import Refused
from cilia.metrics import counter
from cilia.policy.engine import events as engine
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.groups import Difference
from cilia.policy.engine.options import Options
from cilia.policy.engine.reserved import labels_of_prefix
from cilia.policy.engine.rules import Policy, parse_prefix
from cilia.policy.errors import BadPolicy, PolicyError
from cilia.policy.explain.explanation import explain_flow
from cilia.policy.language.enforcement import KEY as ENFORCEMENT_KEY
from services.policy.resolution.directory import ClusterDirectory
from services.policy.resolution.events import CauseEvent, EndpointEvent, Event, IdentityEvent, PolicyEvent
from services.policy.resolution.identity_endpoints import IdentityEndpoints
from services.policy.resolution.parse_cache import ParseCache
from services.policy.resolution.trial import DesiredPolicies, Sizes

log = logging.getLogger(__name__)

Differences = Mapping[Identity, Difference]


@dataclass(slots=True)
class ResolverCounters:
    """Work of the engine on changes of policies."""

    resolutions: int = counter("changes of policies that the engine resolved, to try them or to put them in force")
    trials_adopted: int = counter("changes of policies in force as they were tried, without another resolution")
    trials_dropped: int = counter("trials of changes of policies that were taken back")


@dataclass(frozen=True, slots=True)
class Trial:
    """A change that the engine has taken, although it isn't stored (yet).

    Attributes:
        undo: Events that bring the state before the trial back.
        differences: Of the change, by subject.
        sizes: Entries of these subjects.
        provisional: It has prefixes without an identity of their own.
    """

    desired: DesiredPolicies
    undo: Sequence[engine.Event]
    differences: Differences
    sizes: Sizes
    provisional: bool


@dataclass(frozen=True, slots=True)
class Rows(Mapping[str, Mapping[SubjectKey, PolicyEntry]]):
    """Rows of RESOLVED by shard, of the engine's state of now.

    Attributes:
        current: Gives the engine; a trial may be under way.
        settled: Gives it without a trial.
    """

    current: Callable[[], Engine]
    settled: Callable[[], Engine]

    def __getitem__(self, shard: str) -> Mapping[SubjectKey, PolicyEntry]:
        if not shard.isdecimal():
            raise KeyError(shard)
        subject = Identity(int(shard))
        return {SubjectKey(subject, key): entry for key, entry in self.settled().map_state(subject).items()}

    def __iter__(self) -> Iterator[str]:
        return map(str, self.current().subjects)

    def __len__(self) -> int:
        return len(self.current().subjects)


class EngineResolver:
    """Resolver of policy by an :class:`~cilia.policy.engine.engine.Engine`; see
    :class:`services.policy.resolution.informer.Resolver`.
    """

    def __init__(self, parsed: ParseCache, options: Options) -> None:
        self._options = options
        self._parsed = parsed
        self.counters = ResolverCounters()
        self.clear()

    def clear(self) -> None:
        """Forget everything; the whole state follows."""
        self._engine = Engine(self._options)
        self._trials: list[Trial] = []
        self._endpoints = IdentityEndpoints()

    def load(self, events: Sequence[Event]) -> None:
        """Fold in all that there is."""
        gc.disable()  # it would look through all of it time and again, and there are no cycles to find
        try:
            self._engine.apply(self._translate(events))
        finally:
            gc.enable()
        gc.collect()
        gc.freeze()  # nor shall it later: that would hold a change up for a second

    @property
    def rows(self) -> Rows:
        """Resolved policy by shard, made when it is asked for: subjects under the same rules share
        what it is of.
        """
        return Rows(lambda: self._engine, self._settle)

    def take(self, events: Sequence[Event]) -> dict[SubjectKey, PolicyEntry | None]:
        """Fold the events of one revision in; return what that changes."""
        facts = [event for event in events if not isinstance(event, CauseEvent)]
        return _rows_of(self._resolve(facts)) if facts else {}

    def _resolve(self, events: Sequence[Event]) -> Differences:
        changed = {event.key: event.row for event in events if isinstance(event, PolicyEvent)}
        trial = self._trials[0] if self._trials else None
        if trial is not None and not trial.provisional and len(changed) == len(events) and changed == trial.desired:
            del self._trials[0]
            self.counters.trials_adopted += 1
            return trial.differences
        self._settle()
        self.counters.resolutions += bool(changed)
        return self._engine.apply(self._translate(events))

    def size(self, subject: Identity) -> int:
        """Return how many entries a subject has once all that is on trial is made."""
        return self._engine.size(subject)

    def try_sizes(self, desired: DesiredPolicies) -> Sizes:
        """Return what a change would do to the number of entries; what is tried stays for
        :meth:`take`.
        """
        return self._try(desired).sizes

    def try_cookies(self, desired: DesiredPolicies, subject: Identity) -> Counter[int]:
        """Return how many entries of a subject each policy would have, by cookie."""
        self._try(desired)
        return Counter(entry.cookie for entry in self._engine.map_state(subject).values())

    def drop_trial(self, desired: DesiredPolicies) -> None:
        """Take the trial of a change back, and those on top of it, if there is one."""
        place = self._find_trial(desired)
        if place is not None:
            self._take_back(place)

    def _find_trial(self, desired: DesiredPolicies) -> int | None:
        return next((place for place, trial in enumerate(self._trials) if trial.desired == desired), None)

    def _try(self, desired: DesiredPolicies) -> Trial:
        place = self._find_trial(desired)
        if place is not None:
            return self._trials[place]
        provisional = list(self._identities_missing(desired))
        undo: list[engine.Event] = [engine.PolicyPut(self._engine.policy(key)) for key in desired]
        undo.append(engine.ModeSet(self._engine.mode, self._engine.audit))
        undo += (engine.IdentityRemoved(put.identity) for put in provisional)
        differences = self._engine.apply([*provisional, *(self._put(key, row) for key, row in desired.items())])
        self.counters.resolutions += 1
        after = {subject: self._engine.size(subject) for subject in differences}
        before = {subject: size - differences[subject].growth for subject, size in after.items()}
        trial = Trial(dict(desired), undo, differences, Sizes(before, after), bool(provisional))
        self._trials.append(trial)
        return trial

    def _identities_missing(self, desired: DesiredPolicies) -> Iterator[engine.IdentityPut]:
        """Yield provisional identities for the prefixes of a change that have none."""
        prefixes = sorted({prefix for row in desired.values() if row is not None for prefix in row.prefixes})
        if prefixes:
            there = {labels for identity, labels in self._engine.labels.items() if identity >= PREFIX_SCOPE}
            wanted = (labels_of_prefix(parse_prefix(prefix)) for prefix in prefixes)
            missing = (labels for labels in wanted if labels not in there)
            yield from map(engine.IdentityPut, map(Identity, count(PROVISIONAL_SCOPE)), missing)

    def _settle(self) -> Engine:
        """Return the engine as etcd has it: what is on trial is taken back."""
        self._take_back(0)
        return self._engine

    def _take_back(self, first: int) -> None:
        """Take trials back, from the newest to the one at a place."""
        while len(self._trials) > first:
            self._engine.apply(self._trials.pop().undo)
            self.counters.trials_dropped += 1

    def explain(self, request: ExplainFlow, nodes: Sequence[Node] = ()) -> Explained:
        """Explain why a flow is allowed or denied.

        Args:
            nodes: Rows of all nodes; needed only where an address is asked about.

        Raises:
            Refused: An end or the port is unknown.
        """
        engine = self._settle()
        try:
            return explain_flow(engine, request, ClusterDirectory(self._endpoints.rows, nodes, engine.labels))
        except PolicyError as error:
            raise Refused(Problem(ProblemCode.NOT_FOUND, str(error))) from error

    def _translate(self, events: Iterable[Event]) -> Iterator[engine.Event]:
        endpoints = []
        for event in events:
            match event:
                case PolicyEvent(key, row):
                    yield self._put(key, row)
                case IdentityEvent(identity, None):
                    yield engine.IdentityRemoved(identity)
                case IdentityEvent(identity, labels) if labels is not None:
                    yield engine.IdentityPut(identity, labels)
                case EndpointEvent():
                    endpoints.append(event)
        yield from self._endpoints.take(endpoints)

    def _put(self, key: str, row: PolicyObject | None) -> engine.Event:
        if row is None:
            return engine.ModeSet(self._options.mode) if key == ENFORCEMENT_KEY else engine.PolicyRemoved(key)
        try:
            parsed = self._parsed.read(row)
        except BadPolicy as error:  # another version accepted it: no rule of ours, so nothing opens
            log.error("policy %s can't be enforced: %s", key, error)
            return engine.PolicyPut(Policy(key, ()))
        if parsed.enforcement is not None:
            return engine.ModeSet(parsed.enforcement.mode, parsed.enforcement.audit)
        return engine.PolicyPut(parsed.policy)


def _rows_of(differences: Differences) -> dict[SubjectKey, PolicyEntry | None]:
    """Return differences as rows; None stands for one that is gone."""
    shared = {id(each): each for each in differences.values()}  # subjects under the same rules have the same
    rows = {name: each.rows for name, each in shared.items()}
    return {
        SubjectKey(subject, key): entry
        for subject, difference in differences.items()
        for key, entry in rows[id(difference)].items()
    }
