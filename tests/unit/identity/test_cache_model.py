"""The identity cache against a model that looks at all keys, whatever was put and deleted."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.identities import node_range, prefix_range
from cilia.contracts.ids import EndpointId, Identity, NodeName, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.tables import (
    ENDPOINTS,
    IDENTITIES,
    PREFIXES,
    Endpoint,
    EndpointKey,
    Node,
    PolicyObject,
    PrefixRow,
)
from services.identity.address_labels import node_labels, node_prefixes, prefix_labels
from services.identity.cache import IdentityCache, identity_row

KEYS = Keys("test")
PODS = {256: "k8s:app=web;", 257: "k8s:app=db;"}
CIDRS = ("10.0.0.0/8", "192.0.2.1/32")
PREFIX_NUMBERS = {prefix_range()[number]: prefix_labels(cidr) for number, cidr in enumerate(CIDRS)}
NODES = (
    Node(NodeName("n1"), "192.0.2.1", labels=("zone=a",)),
    Node(NodeName("n2"), "192.0.2.2", labels=("zone=a",), pod_cidrs=("10.244.0.0/26",)),
    Node(NodeName("n3"), "192.0.2.3"),
)
NUMBERS = PODS | PREFIX_NUMBERS | {node_range()[0]: node_labels(("zone=a",))}


@dataclass
class Model:
    """The keys in etcd; all else is computed from them each time."""

    keys: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    def below(self, prefix: str) -> dict[str, tuple[bytes, int]]:
        return {key.removeprefix(prefix): found for key, found in self.keys.items() if key.startswith(prefix)}

    def users(self) -> Counter[int]:
        endpoints = (msgspec.json.decode(value, type=Endpoint) for value, _ in self.below(KEYS.endpoints).values())
        references = (int(key.partition("/")[0]) for key in self.below(KEYS.identity_refs))
        return Counter([row.identity for row in endpoints]) + Counter(references)

    def required(self) -> set[str]:
        policies = (msgspec.json.decode(value, type=PolicyObject) for value, _ in self.below(KEYS.policies).values())
        named = {prefix_labels(prefix) for policy in policies for prefix in policy.prefixes}
        return named | {labels for row in self.nodes() if (labels := node_labels(row.labels))}

    def nodes(self) -> list[Node]:
        return [msgspec.json.decode(value, type=Node) for value, _ in self.below(KEYS.nodes).values()]

    def identities(self) -> dict[int, str]:
        return {int(key): value.decode() for key, (value, _) in self.below(KEYS.identities).items()}

    def marks(self) -> dict[int, int]:
        return {int(key): revision for key, (_, revision) in self.below(KEYS.identities_unused).items()}

    def unused(self) -> dict[int, int]:
        users, required = self.users(), self.required()
        return {
            int(key): revision
            for key, (labels, revision) in self.below(KEYS.identities).items()
            if not users[int(key)] and labels.decode() not in required
        }

    def missing(self) -> set[str]:
        lasting = {labels for number, labels in self.identities().items() if number not in self.marks()}
        return self.required() - lasting

    def prefixes(self) -> dict[str, PrefixRow]:
        lasting = {labels: number for number, labels in self.identities().items() if number not in self.marks()}
        rows = {cidr: lasting.get(prefix_labels(cidr)) for cidr in CIDRS}
        for node in self.nodes():
            if node.labels:
                rows |= dict.fromkeys(node_prefixes(node), lasting.get(node_labels(node.labels)))
        return {prefix: PrefixRow(Identity(number)) for prefix, number in rows.items() if number is not None}


def row(number: int, identity: int) -> tuple[str, bytes]:
    endpoint = Endpoint(NodeName("n1"), EndpointId(number), Identity(identity), f"10.0.0.{number}")
    return KEYS.endpoint(endpoint.node, endpoint.id), msgspec.json.encode(endpoint)


def policy(name: str, *prefixes: str) -> tuple[str, bytes]:
    return KEYS.policy(f"P/s/{name}"), msgspec.json.encode(PolicyObject("P", "s", name, "{}", prefixes=prefixes))


PUTS = (
    [(KEYS.identity(Identity(number)), labels.encode()) for number, labels in NUMBERS.items()]
    + [(KEYS.identity_unused(Identity(number)), b"") for number in NUMBERS]
    + [(KEYS.identity_ref(Identity(number), holder), b"") for number in PODS for holder in ("a", "b")]
    + [row(number, identity) for number in (1, 2) for identity in PODS]
    + [policy("p", CIDRS[0]), policy("p", *CIDRS), policy("q", CIDRS[1])]
    + [(KEYS.node(node.name), msgspec.json.encode(node)) for node in NODES]
    + [(KEYS.node(NodeName("n1")), msgspec.json.encode(Node(NodeName("n1"), "192.0.2.9", labels=("zone=a",))))]
)
STEPS = st.lists(st.tuples(st.integers(0, len(PUTS) - 1), st.booleans()), max_size=40)


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_the_cache_knows_what_all_keys_say_and_tells_each_change_of_a_row(steps: list[tuple[int, bool]]) -> None:
    cache, model = IdentityCache(KEYS), Model()
    tables: dict[str, dict[object, object]] = {table.name: {} for table in (IDENTITIES, ENDPOINTS, PREFIXES)}
    for revision, (which, deletes) in enumerate(steps, 2):
        key, value = PUTS[which]
        if deletes and key not in model.keys:
            continue
        if deletes:
            del model.keys[key]
            changes = cache.delete(key)
        else:
            model.keys[key] = value, revision
            changes = cache.put(key, value, Revision(revision))
        for change in changes:
            tables[change.table.name].pop(change.key, None)
            if change.row is not None:
                tables[change.table.name][change.key] = change.row
        assert cache.identities == model.identities()
        assert cache.marks == model.marks()
        assert cache.unused() == model.unused()
        assert set(cache.missing()) == model.missing()
        assert {
            number: cache.users(Identity(number)) for number in PODS if cache.users(Identity(number))
        } == model.users()
        assert tables["identities"] == {number: identity_row(labels) for number, labels in model.identities().items()}
        assert tables["endpoints"] == {
            EndpointKey(NodeName("n1"), EndpointId(int(key.partition("/")[2]))): msgspec.json.decode(
                value, type=Endpoint
            )
            for key, (value, _) in model.below(KEYS.endpoints).items()
        }
        assert tables["prefixes"] == model.prefixes()


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_a_cache_that_is_told_all_at_once_knows_the_same(steps: list[tuple[int, bool]]) -> None:
    gradual, model = IdentityCache(KEYS), Model()
    for revision, (which, deletes) in enumerate(steps, 2):
        key, value = PUTS[which]
        if not deletes:
            model.keys[key] = value, revision
            gradual.put(key, value, Revision(revision))
        elif model.keys.pop(key, None) is not None:
            gradual.delete(key)
    at_once = IdentityCache(KEYS)
    at_once.put(KEYS.identity(Identity(256)), b"k8s:app=forgotten;", Revision(1))
    at_once.clear()
    for key, (value, revision) in model.keys.items():
        at_once.put(key, value, Revision(revision))
    assert at_once.unused() == gradual.unused()
    assert set(at_once.missing()) == set(gradual.missing())
    assert at_once.marks == gradual.marks
