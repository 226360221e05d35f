"""Trials in any history: who hears the differences holds what a new resolver computes from etcd."""

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
from tests.unit.policy.service.changes_of import endpoint, identity, key, new_resolver, policy

APPS = ("a", "b")
WRITTEN: list[tuple[str, PolicyObject | None]] = [
    *((key(name), policy(name, app, port)) for name, app, port in product(("p", "q"), APPS, (80, 443))),
    *((key(name), None) for name in ("p", "q")),
    (ENFORCEMENT, PolicyObject("CiliaEnforcement", "", "cluster", Enforcement(Mode.ALWAYS).document)),
    (ENFORCEMENT, None),
]
SUBJECTS = (300, 301, 302)
changes = st.lists(st.sampled_from(WRITTEN), min_size=1, max_size=2).map(dict)
labels = st.sampled_from(["k8s:app=a", "k8s:app=b", "k8s:role=peer"])
facts: st.SearchStrategy[Event] = st.one_of(
    st.builds(identity, st.sampled_from(SUBJECTS), labels),
    st.sampled_from(SUBJECTS).map(lambda number: IdentityEvent(Identity(number), None)),
    st.builds(endpoint, st.just("n1"), st.sampled_from([1, 2]), st.sampled_from(SUBJECTS)),
    st.sampled_from([1, 2]).map(lambda number: EndpointEvent(EndpointKey(NodeName("n1"), EndpointId(number)), None)),
)
steps = st.one_of(
    st.tuples(st.just("try"), changes),
    st.tuples(st.just("store what was tried"), st.none()),
    st.tuples(st.just("store"), changes),
    st.tuples(st.just("drop"), st.none()),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("fact"), facts),
)


class Replica:
    """A resolver, etcd's state, and a subscriber who only hears the differences."""

    def __init__(self) -> None:
        self.resolver = new_resolver()
        self.state: dict[object, Event] = {}
        self.heard: dict[SubjectKey, PolicyEntry] = {}
        self.tried: DesiredPolicies = {}
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

    def store(self, change: DesiredPolicies) -> None:
        self.commit(*(PolicyEvent(name, row) for name, row in change.items()))

    def play(self, step: str, what: object) -> None:
        match step, what:
            case "try", dict():
                self.tried = what
                sizes = self.resolver.try_sizes(what)
                assert sizes.before == {subject: self.size(subject) for subject in sizes.before}
            case "store what was tried", _:
                adopted = self.resolver.counters.trials_adopted
                self.store(self.tried)
                event(f"adopted: {self.resolver.counters.trials_adopted > adopted}")
            case "store", dict():
                self.store(what)
            case "drop", _:
                self.resolver.drop_trial(self.tried)
            case "read", _:
                assert rows(self.resolver) == self.heard
            case "fact", IdentityEvent() | EndpointEvent():
                self.commit(what)

    def size(self, subject: Identity) -> int:
        return sum(row.subject == subject for row in self.heard)


def rows(resolver: EngineResolver) -> dict[SubjectKey, PolicyEntry]:
    return {row: entry for found in resolver.rows.values() for row, entry in found.items()}


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(steps, min_size=1, max_size=12))
def test_trials_change_nothing_but_what_a_change_costs(history: list[tuple[str, object]]) -> None:
    replica = Replica()
    for step, what in history:
        replica.play(step, what)
        for number in SUBJECTS:
            assert replica.resolver.size(Identity(number)) == replica.size(Identity(number))
    fresh = new_resolver()
    fresh.load(list(replica.state.values()))
    assert rows(replica.resolver) == rows(fresh) == replica.heard
