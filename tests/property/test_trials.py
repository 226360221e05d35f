"""Trials in any history, several at once, also of prefixes without an identity: who hears the
differences holds what a new resolver computes from etcd.
"""

from itertools import product

from hypothesis import event, given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.tables import EndpointKey, PolicyEntry, PolicyObject, SubjectKey
from cilia.policy.engine.options import Mode
from cilia.policy.language.enforcement import KEY as ENFORCEMENT
from cilia.policy.language.enforcement import Enforcement
from services.policy.resolution.events import EndpointEvent, Event, IdentityEvent, PolicyEvent
from services.policy.resolution.resolver import EngineResolver
from services.policy.resolution.trial import DesiredPolicies
from tests.property.examples import examples
from tests.unit.policy.service.changes_of import endpoint, identity, key, new_resolver, outside, outsiders, policy

APPS = ("a", "b")
WRITTEN: list[tuple[str, PolicyObject | None]] = [
    *((key(name), policy(name, app, port)) for name, app, port in product(("p", "q"), APPS, (80, 443))),
    *((key(name), None) for name in ("p", "q")),
    *((key("q"), outsiders("q", app, "192.0.2.0/24", "192.0.2.128/25")) for app in APPS),
    (ENFORCEMENT, PolicyObject("CiliaEnforcement", "", "cluster", Enforcement(Mode.ALWAYS).document)),
    (ENFORCEMENT, None),
]
SUBJECTS = (300, 301, 302)
OUTSIDE = (outside(1, "192.0.2.0/24"), outside(2, "192.0.2.128/25"))
changes = st.lists(st.sampled_from(WRITTEN), min_size=1, max_size=2).map(dict)
labels = st.sampled_from(["k8s:app=a", "k8s:app=b", "k8s:role=peer"])
facts: st.SearchStrategy[Event] = st.one_of(
    st.builds(identity, st.sampled_from(SUBJECTS), labels),
    st.sampled_from(SUBJECTS).map(lambda number: IdentityEvent(Identity(number), None)),
    st.sampled_from([*OUTSIDE, *(IdentityEvent(each.identity, None) for each in OUTSIDE)]),
    st.builds(endpoint, st.just("n1"), st.sampled_from([1, 2]), st.sampled_from(SUBJECTS)),
    st.sampled_from([1, 2]).map(lambda number: EndpointEvent(EndpointKey(NodeName("n1"), EndpointId(number)), None)),
)
steps = st.one_of(
    st.tuples(st.just("try"), changes),
    st.tuples(st.just("try"), changes),
    st.tuples(st.just("store what was tried"), st.just(0)),
    st.tuples(st.just("store what was tried"), st.integers(0, 2)),
    st.tuples(st.just("store"), changes),
    st.tuples(st.just("drop"), st.integers(0, 2)),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("fact"), facts),
)


class Replica:
    """A resolver, etcd's state, and a subscriber who only hears the differences."""

    def __init__(self) -> None:
        self.resolver = new_resolver()
        self.state: dict[object, Event] = {}
        self.heard: dict[SubjectKey, PolicyEntry] = {}
        self.trials: list[DesiredPolicies] = []
        """Changes on trial, the newest on top."""
        for each in (identity(300, "k8s:app=a"), identity(301, "k8s:app=b"), identity(302, "k8s:role=peer")):
            self.commit(each)

    def commit(self, *events: Event) -> None:
        for each in events:
            match each:
                case PolicyEvent(name):
                    self.state[name] = each
                case IdentityEvent(number):
                    self.state[number] = each
                case EndpointEvent(name):
                    self.state[name] = each
        for row, entry in self.resolver.take(events).items():
            self.heard.pop(row, None)
            if entry is not None:
                self.heard[row] = entry

    def play(self, step: str, what: object) -> None:
        match step, what:
            case "try", dict():
                self.try_out(what)
            case "store what was tried", int() if self.trials:
                self.store(self.trials[what % len(self.trials)])
            case "store", dict():
                self.store(what)
            case "drop", int() if self.trials:
                place = what % len(self.trials)
                self.resolver.drop_trial(self.trials[place])
                del self.trials[place:]
            case "read", _:
                assert rows(self.resolver) == self.heard
                self.trials.clear()
            case "fact", IdentityEvent() | EndpointEvent():
                self.trials.clear()
                self.commit(what)

    def store(self, change: DesiredPolicies) -> None:
        """Store a change: the one that was tried first is in force as it was tried."""
        adopted, expected = (
            self.resolver.counters.trials_adopted,
            change in self.trials[:1] and not self.missing(change),
        )
        self.trials = self.trials[1:] if expected else []
        self.commit(*(PolicyEvent(name, row) for name, row in change.items()))
        assert self.resolver.counters.trials_adopted - adopted == expected
        event(f"adopted: {expected}, below {len(self.trials)} others")

    def try_out(self, change: DesiredPolicies) -> None:
        """Try a change: the forecast is what comes once all that is on trial is made."""
        known = change in self.trials
        sizes = self.resolver.try_sizes(change)
        if known:
            return
        self.trials.append(change)
        fresh = new_resolver()
        fresh.load(list(self.state.values()))
        for each in self.trials[:-1]:
            make(fresh, self.missing(each), each)
        fresh.take(self.missing(change))
        before = {subject: fresh.size(subject) for subject in map(Identity, SUBJECTS)}
        make(fresh, [], change)
        after = {subject: fresh.size(subject) for subject in map(Identity, SUBJECTS)}
        assert {subject: self.resolver.size(subject) for subject in after} == after
        assert sizes.after == {subject: after[subject] for subject in sizes.after}
        if not self.missing(change):
            assert sizes.before == {subject: before[subject] for subject in sizes.before}

    def missing(self, change: DesiredPolicies) -> list[IdentityEvent]:
        """Return the identities that a change's prefixes still lack."""
        named = {prefix for row in change.values() if row is not None for prefix in row.prefixes}
        there = (self.state.get(each.identity) for each in OUTSIDE)
        has = [isinstance(each, IdentityEvent) and each.labels is not None for each in there]
        return [each for each, known in zip(OUTSIDE, has, strict=True) if named and not known]


def make(resolver: EngineResolver, identities: list[IdentityEvent], change: DesiredPolicies) -> None:
    resolver.take(identities)
    resolver.take([PolicyEvent(name, row) for name, row in change.items()])


def rows(resolver: EngineResolver) -> dict[SubjectKey, PolicyEntry]:
    return {row: entry for found in resolver.rows.values() for row, entry in found.items()}


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(steps, min_size=1, max_size=12))
def test_trials_change_nothing_but_what_a_change_costs(history: list[tuple[str, object]]) -> None:
    replica = Replica()
    for step, what in history:
        replica.play(step, what)
    fresh = new_resolver()
    fresh.load(list(replica.state.values()))
    assert rows(replica.resolver) == rows(fresh) == replica.heard
