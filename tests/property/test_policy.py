"""The engine against the model, and against itself: whatever happened before, the state decides."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine import peersets
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import (
    EndpointsChanged,
    Event,
    IdentityPut,
    IdentityRemoved,
    ModeSet,
    PolicyPut,
    PolicyRemoved,
)
from cilia.policy.engine.mapstate import Match, broader
from cilia.policy.engine.options import Mode
from cilia.policy.engine.reserved import reserved_labels
from cilia.policy.engine.rules import (
    EVERYTHING,
    NAMESPACED,
    Block,
    NamedPort,
    Operator,
    Policy,
    PortRange,
    Requirement,
    Rule,
    Selector,
    Spec,
    cidr_label,
    parse_prefix,
    split_names,
)
from cilia.policy.engine.selectors import ContainerPort
from cilia.policy.engine.verdict import StateLookup
from tests.property.examples import examples
from tests.property.policy_model import Model, Workload

NAMESPACE = "io.kubernetes.pod.namespace"
PREFIXES = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24")
PODS = tuple(range(256, 264))
OUTSIDE = tuple(range(300, 300 + len(PREFIXES)))
RESERVED_LABELS = reserved_labels(dual_stack=True)

values = st.sampled_from(["a", "b", "c"])
requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from(["k8s", "any"]),
        st.sampled_from(["app", "tier", NAMESPACE]),
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.sets(values, min_size=1, max_size=2).map(lambda items: tuple(sorted(items))),
    ),
    st.builds(
        Requirement,
        st.sampled_from(["k8s", "any"]),
        st.sampled_from(["app", "tier", NAMESPACE]),
        st.sampled_from([Operator.EXISTS, Operator.ABSENT]),
    ),
)
label_selectors = st.lists(requirements, max_size=2).map(lambda items: Selector(tuple(items)))
cidr_selectors = st.builds(
    lambda prefix, holes: Selector(
        (
            Requirement("cidr", prefix, Operator.EXISTS),
            *(Requirement("cidr", hole, Operator.ABSENT) for hole in holes),
        )
    ),
    st.sampled_from([*PREFIXES, "0.0.0.0/0"]),
    st.lists(st.sampled_from(PREFIXES), max_size=1),
)
blocks = st.builds(
    lambda prefix, holes: Selector(block=Block(parse_prefix(prefix), tuple(parse_prefix(hole) for hole in holes))),
    st.sampled_from([*PREFIXES, "0.0.0.0/0"]),
    st.lists(st.sampled_from(PREFIXES), max_size=1),
)
entities = st.sampled_from(["host", "world", "init", "remote-node"]).map(
    lambda name: Selector((Requirement("reserved", name, Operator.EXISTS),))
)
peers = st.one_of(
    st.none(),
    st.lists(st.one_of(label_selectors, cidr_selectors, blocks, entities), max_size=2).map(tuple),
)
protocols = st.sampled_from([6, 17])
edges = st.sampled_from([0, 1, 79, 80, 81, 443, 1024, 65_535])
ranges = st.builds(lambda protocol, a, b: PortRange(protocol, min(a, b), max(a, b)), protocols, edges, edges)
ports = st.one_of(
    st.none(),
    st.lists(
        st.one_of(
            ranges,
            protocols.map(PortRange),
            st.builds(NamedPort, protocols, st.sampled_from(["http", "dns"])),
            st.just(PortRange(1, 8, 8)),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
rules = st.builds(Rule, st.booleans(), st.sampled_from([False, False, True]), peers, ports)
specs = st.builds(
    lambda subject, items, ingress, egress, audit: Spec(
        subject, tuple(part for rule in items for part in split_names(rule)), ingress, egress, audit
    ),
    label_selectors,
    st.lists(rules, max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([False, False, True]),
)
policies = st.builds(
    lambda name, items: Policy(f"CiliumNetworkPolicy/x/{name}", tuple(items)),
    st.sampled_from(["p", "q", "r"]),
    st.lists(specs, max_size=2),
)
labels = st.builds(
    lambda app, tier, namespace: frozenset(
        {f"k8s:{NAMESPACE}={namespace}"}
        | ({f"k8s:app={app}"} if app else set())
        | ({f"k8s:tier={tier}"} if tier else set())
    ),
    st.one_of(st.none(), values),
    st.one_of(st.none(), values),
    values,
)
named = st.frozensets(
    st.builds(ContainerPort, st.sampled_from(["http", "dns"]), protocols, st.sampled_from([80, 443, 8080])), max_size=2
)
pods = st.sampled_from(PODS).map(Identity)
addresses = st.frozensets(st.sampled_from(["10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.7"]), max_size=2)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(PolicyPut, policies),
    policies.map(lambda policy: PolicyRemoved(policy.key)),
    st.builds(lambda identity, texts: IdentityPut(identity, parse_labels(texts)), pods, labels),
    st.builds(IdentityRemoved, pods),
    st.builds(EndpointsChanged, pods, addresses, named),
    st.sampled_from(range(len(PREFIXES))).map(
        lambda i: IdentityPut(
            Identity(OUTSIDE[i]), frozenset({cidr_label(parse_prefix(PREFIXES[i])), *parse_labels(["reserved:world"])})
        )
    ),
    st.builds(IdentityRemoved, st.sampled_from(OUTSIDE).map(Identity)),
    st.builds(
        ModeSet,
        st.sampled_from([Mode.DEFAULT, Mode.DEFAULT, Mode.ALWAYS, Mode.NEVER]),
        st.sampled_from([False, False, True]),
    ),
)
histories = st.lists(st.lists(events, min_size=1, max_size=4), min_size=1, max_size=12)


class World:
    """The state after a history, as the model needs it and as a new engine would be told."""

    def __init__(self) -> None:
        self.policies: dict[str, PolicyPut] = {}
        self.identities: dict[Identity, IdentityPut] = {}
        self.endpoints: dict[Identity, EndpointsChanged] = {}
        self.mode = ModeSet(Mode.DEFAULT)

    def take(self, event: Event) -> None:
        match event:
            case PolicyPut(policy):
                self.policies[policy.key] = event
            case PolicyRemoved(key):
                self.policies.pop(key, None)
            case IdentityPut(identity):
                self.identities[identity] = event
            case IdentityRemoved(identity):
                self.identities.pop(identity, None)
            case EndpointsChanged(identity):
                self.endpoints[identity] = event
            case ModeSet():
                self.mode = event

    def events(self) -> list[Event]:
        return [*self.policies.values(), *self.endpoints.values(), *self.identities.values(), self.mode]

    def model(self) -> Model:
        policies = {key: item.policy for key, item in self.policies.items()}
        model = Model(policies, mode=self.mode.mode.value, audit=self.mode.audit)
        held = {**RESERVED_LABELS, **{identity: item.labels for identity, item in self.identities.items()}}
        for identity, found in held.items():
            endpoints = self.endpoints.get(identity)
            prefixes = [label.key for label in found if label.source == "cidr"]
            model.workloads[identity] = Workload(
                identity,
                frozenset(str(label) for label in found if label.source != "cidr"),
                endpoints.addresses if endpoints else frozenset(),
                frozenset((item.name, item.protocol, item.port) for item in endpoints.ports)
                if endpoints
                else frozenset(),
                prefixes[0].replace("-", ":") if prefixes else "",
            )
        return model


def play(history: list[list[Event]]) -> tuple[Engine, World, dict[Identity, dict[PolicyKey, PolicyEntry]]]:
    """Return engine and world after a history, and what someone holds who only heard the
    differences.
    """
    engine, world = Engine(), World()
    heard: dict[Identity, dict[PolicyKey, PolicyEntry]] = {}
    for batch in history:
        for event in batch:
            world.take(event)
        for subject, difference in engine.apply(batch).items():
            mirror = heard.setdefault(subject, {})
            for key in difference.removes:
                del mirror[key]
            mirror.update(difference.upserts)
    return engine, world, {subject: mirror for subject, mirror in heard.items() if mirror}


@pytest.fixture(params=[31, 1, 0], ids=["sets are numbered", "two numbers for all sets", "one number for all sets"])
def hash_bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the numbers of different sets equal."""
    monkeypatch.setattr(peersets, "HASH_BITS", request.param)


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories)
def test_whoever_hears_the_differences_holds_what_a_new_engine_computes(
    hash_bits: None, history: list[list[Event]]
) -> None:
    engine, world, heard = play(history)
    fresh = Engine()
    fresh.apply(world.events())
    full = {subject: state for subject in fresh.subjects if (state := fresh.map_state(subject))}
    held = {subject: state for subject in engine.subjects if (state := engine.map_state(subject))}
    assert held == full
    assert heard == full


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories, probes=st.lists(st.tuples(protocols, edges), min_size=1, max_size=6))
def test_the_data_plane_decides_as_the_rules_say(
    hash_bits: None, history: list[list[Event]], probes: list[tuple[int, int]]
) -> None:
    engine, world, _ = play(history)
    model = world.model()
    for subject in engine.subjects:
        state = StateLookup(engine.map_state(subject))
        for peer in model.workloads:
            for protocol, port in [*probes, (1, 8), (47, 0)]:
                for egress in (False, True):
                    verdict = state.decide(Identity(peer), egress=egress, protocol=protocol, port=port)
                    found = "audited" if verdict.audited else "allowed" if verdict.allowed else "denied"
                    expected = model.judge(subject, peer, egress=egress, protocol=protocol, port=port)
                    assert found == expected, (subject, peer, egress, protocol, port, verdict)


@settings(max_examples=examples(50), deadline=None)
@given(histories)
def test_no_entry_stands_below_a_broader_one_that_decides_the_same_or_overrules_it(history: list[list[Event]]) -> None:
    engine, _, _ = play(history)
    for subject in engine.subjects:
        state = engine.map_state(subject)
        for key, entry in state.items():
            own = Match(key.egress, key.protocol, key.port, key.port_bits)
            for match in broader(own):
                above = state.get(type(key)(match.egress, key.identity, match.protocol, match.port, match.bits))
                assert above is None or above.precedence < entry.precedence


def test_the_model_knows_the_simplest_cases() -> None:
    """A model that is wrong itself proves nothing."""
    web = Workload(256, frozenset({"k8s:app=web", f"k8s:{NAMESPACE}=x"}))
    db = Workload(257, frozenset({"k8s:app=db", f"k8s:{NAMESPACE}=x"}))
    rule = Rule(False, False, (Selector((Requirement("any", "app", Operator.IN, ("web",)),)),), (PortRange(6, 80, 80),))
    spec = Spec(Selector((Requirement("k8s", "app", Operator.IN, ("db",)), NAMESPACED)), (rule,), True, False)
    model = Model({"k": Policy("k", (spec,))}, {256: web, 257: db})
    assert model.judge(257, 256, egress=False, protocol=6, port=80) == "allowed"
    assert model.judge(257, 256, egress=False, protocol=6, port=81) == "denied"
    assert model.judge(257, 257, egress=False, protocol=6, port=80) == "denied"
    assert model.judge(257, 256, egress=True, protocol=6, port=81) == "allowed"
    assert model.judge(256, 257, egress=False, protocol=6, port=81) == "allowed"
    assert Selector() == EVERYTHING
