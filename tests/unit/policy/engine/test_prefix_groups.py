"""Groups of prefixes: rules name them by name or label, and follow what is in them."""

import json

import pytest

from cilia.contracts.identities import PREFIX_SCOPE
from cilia.contracts.ids import Identity
from cilia.contracts.labels import workload
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import IdentityPut, IdentityRemoved, PolicyPut, PolicyRemoved
from cilia.policy.engine.reserved import labels_of_prefix
from cilia.policy.engine.rules import parse_prefix
from cilia.policy.language.parse import parse_policies
from tests.unit.policy.language.mistakes import assert_refused, peer

WEB = Identity(256)
PREFIXES = ("192.0.2.0/24", "192.0.2.128/25", "198.51.100.0/24", "2001:db8::/32")
NUMBERS = {prefix: Identity(PREFIX_SCOPE + number) for number, prefix in enumerate(PREFIXES, 1)}


def group(name: str, *prefixes: str, **labels: str) -> PolicyPut:
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": name, "labels": labels},
        "spec": {"externalCIDRs": list(prefixes)},
    }
    return put(json.dumps(document))


def put(text: str) -> PolicyPut:
    (parsed,) = parse_policies(text)
    return PolicyPut(parsed.policy)


def rule(*sets: str) -> PolicyPut:
    return put(peer("toCIDRSet: [" + ", ".join(f"{{{each}}}" for each in sets) + "]"))


def engine_with(*events: PolicyPut) -> Engine:
    """Return an engine with one pod, and an identity for each prefix."""
    engine = Engine()
    engine.apply([IdentityPut(WEB, workload("x", {"app": "web"}))])
    engine.apply([IdentityPut(number, labels_of_prefix(parse_prefix(prefix))) for prefix, number in NUMBERS.items()])
    engine.apply(events)
    return engine


def reached(engine: Engine) -> set[str]:
    """Return the prefixes that the pod may reach."""
    allowed = {key.identity for key in engine.map_state(WEB) if key.egress}
    return {prefix for prefix, number in NUMBERS.items() if number in allowed}


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["cidrGroupRef: office"], {"192.0.2.0/24", "192.0.2.128/25"}),
        (["cidrGroupRef: office", "cidrGroupRef: lab"], set(PREFIXES)),
        (["cidrGroupRef: office, except: [192.0.2.128/25]"], {"192.0.2.0/24"}),
        (["cidrGroupRef: nobody"], set()),
        (["cidrGroupSelector: {matchLabels: {tier: gold}}"], {"192.0.2.0/24", "192.0.2.128/25"}),
        (["cidrGroupSelector: {matchExpressions: [{key: tier, operator: Exists}]}"], set(PREFIXES)),
        (["cidrGroupSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [gold]}]}"], {*PREFIXES[2:]}),
        (["cidrGroupSelector: {}"], set(PREFIXES)),
        (["cidrGroupSelector: {}, except: [2001:db8::/32]"], set(PREFIXES[:3])),
    ],
)
def test_a_rule_selects_what_lies_in_the_groups_of_a_name_or_a_label(sets: list[str], expected: set[str]) -> None:
    office = group("office", "192.0.2.0/24", tier="gold")
    lab = group("lab", "198.51.100.0/24", "2001:db8::/32", tier="bronze")
    assert reached(engine_with(office, lab, rule(*sets))) == expected


def test_a_prefix_within_one_of_the_group_is_in_the_group_and_one_around_it_is_not() -> None:
    assert reached(engine_with(group("g", "192.0.2.128/25"), rule("cidrGroupRef: g"))) == {"192.0.2.128/25"}


def test_a_group_that_changes_comes_or_goes_moves_the_rules_that_name_it() -> None:
    engine = engine_with(rule("cidrGroupRef: g"))
    assert reached(engine) == set()
    assert list(engine.apply([group("g", "198.51.100.0/24")])) == [WEB]
    assert reached(engine) == {"198.51.100.0/24"}
    engine.apply([group("g", "2001:db8::/32")])
    assert reached(engine) == {"2001:db8::/32"}
    assert engine.apply([group("g", "2001:db8::/32")]) == {}
    engine.apply([PolicyRemoved(group("g").policy.key)])
    assert reached(engine) == set()


def test_two_groups_may_share_a_prefix_and_each_is_found_by_its_own_name_and_labels() -> None:
    one, other = group("one", "198.51.100.0/24", a="1"), group("other", "198.51.100.0/24", b="2")
    for sets in ("cidrGroupRef: one", "cidrGroupRef: other", "cidrGroupSelector: {matchLabels: {a: '1', b: '2'}}"):
        engine = engine_with(one, other, rule(sets))
        assert reached(engine) == {"198.51.100.0/24"}
    engine.apply([PolicyRemoved(other.policy.key)])
    assert reached(engine) == set()


def test_an_identity_that_comes_after_the_group_is_in_it_and_one_that_goes_leaves_no_entry() -> None:
    engine = engine_with(group("g", "198.51.100.0/24"), rule("cidrGroupRef: g"))
    number = Identity(PREFIX_SCOPE + 99)
    engine.apply([IdentityPut(number, labels_of_prefix(parse_prefix("198.51.100.7/32")))])
    assert number in {key.identity for key in engine.map_state(WEB)}
    engine.apply([IdentityRemoved(number)])
    assert number not in {key.identity for key in engine.map_state(WEB)}


def test_the_prefixes_of_a_group_need_identities_as_those_of_rules_do() -> None:
    engine = engine_with(group("g", "198.51.100.0/24", "10.0.0.1"), rule("cidr: 192.0.2.0/24"))
    assert set(map(str, engine.prefixes)) == {"198.51.100.0/24", "10.0.0.1/32", "192.0.2.0/24"}


GROUP = """
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: g%s}
spec: %s
"""
SET = "spec.egress[0].toCIDRSet[0]"


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (GROUP % ("", "{}"), "spec.externalCIDRs", "is required"),
        (GROUP % ("", "{externalCIDRs: 7}"), "spec.externalCIDRs", "must be a list"),
        (GROUP % ("", "{externalCIDRs: [nowhere]}"), "spec.externalCIDRs[0]", "is no CIDR"),
        (GROUP % ("", "{externalCIDRs: ['fe80::1%eth0']}"), "spec.externalCIDRs[0]", "zone"),
        (GROUP % ("", "{externalCIDRs: [], more: 1}"), "spec.more", "unknown field"),
        (GROUP % (", namespace: x", "{externalCIDRs: []}"), "metadata.namespace", "has no namespace"),
        (GROUP % (", labels: {a: 1}", "{externalCIDRs: []}"), "metadata.labels.a", "must be a string"),
        (peer("toCIDRSet: [{cidrGroupRef: 7}]"), f"{SET}.cidrGroupRef", "must be a string"),
        (peer("toCIDRSet: [{cidrGroupRef: g, except: [10.0.0.1]}]"), f"{SET}.except[0]", "is no CIDR"),
        (peer("toCIDRSet: [{cidrGroupSelector: []}]"), f"{SET}.cidrGroupSelector", "must be a mapping"),
        (
            peer("toCIDRSet: [{cidrGroupSelector: {matchExpressions: [{key: a, operator: Gt}]}}]"),
            f"{SET}.cidrGroupSelector.matchExpressions[0].operator",
            "must be one of In, NotIn, Exists, DoesNotExist",
        ),
    ],
)
def test_a_mistake_in_a_group_or_where_one_is_named_is_refused(text: str, path: str, reason: str) -> None:
    assert_refused(text, path, reason)
