"""Described clusters: who is in them, by name, and what is wrong with a description."""

import json

import pytest

from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.policy.simulate.cases import run_cases
from cilia.policy.simulate.cluster import DescribedCluster, build_cluster
from cilia.policy.simulate.description import BadDescription, read_description
from cilia.policy.simulate.verdicts import judge_all

POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "db", "namespace": "shop"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "db"}},
        "ingress": [
            {"fromCIDR": ["192.0.2.0/24", "192.0.2.128/25"]},
            {"fromNodes": [{"matchLabels": {"zone": "a"}}], "toPorts": [{"ports": [{"port": "sql"}]}]},
        ],
    },
}
PODS: list[dict[str, object]] = [
    {"namespace": "shop", "name": "db-1", "labels": {"app": "db"}, "ports": [{"name": "sql", "port": 5432}]},
    {"namespace": "shop", "name": "db-2", "labels": {"app": "db"}, "ports": [{"name": "sql", "port": 5433}]},
    {"name": "lone", "labels": {"app": "web"}},
]
NODES = [{"name": "near", "labels": {"zone": "a"}}, {"name": "bare"}]


def cluster(**more: object) -> DescribedCluster:
    description = {"pods": PODS, "nodes": NODES, "policies": [POLICY], **more}
    return build_cluster(read_description(json.dumps(description), "cluster.json"), source="cluster.json")


def test_pods_with_the_same_labels_and_named_ports_share_an_identity() -> None:
    found = cluster(pods=[*PODS, {**PODS[0], "name": "db-3"}])
    one, two, three, lone = (found.find(name) for name in ("shop/db-1", "shop/db-2", "shop/db-3", "lone"))
    assert one.identity == three.identity
    assert len({one.identity, two.identity, lone.identity}) == 3
    assert (one.number("sql", 6), two.number("sql", 6), lone.number("sql", 6)) == (5432, 5433, None)
    assert one.number("80", 6) == 80


def test_an_identity_of_a_description_keeps_its_number() -> None:
    found = cluster(identities=[{"id": 260, "labels": ["k8s:app=x"], "ports": [{"name": "http", "port": 80}]}])
    assert (found.find("260").identity, found.find("260").number("http", 6)) == (260, 80)


def test_nodes_have_the_identity_of_their_labels_or_are_just_remote_nodes() -> None:
    found = cluster()
    assert found.find("bare").identity == Identity(Reserved.REMOTE_NODE)
    assert found.find("near").identity >= 2 << 24


def test_an_address_has_the_identity_of_the_longest_prefix_that_is_named() -> None:
    found = cluster()
    narrow, broad, world = (found.find(text) for text in ("192.0.2.200", "192.0.2.1", "198.51.100.1"))
    assert len({narrow.identity, broad.identity, world.identity}) == 3
    assert world.identity == Identity(Reserved.WORLD)
    assert cluster(dual_stack=True).find("198.51.100.1").identity == Identity(Reserved.WORLD_IPV4)
    assert cluster(dual_stack=True).find("2001:db8::1").identity == Identity(Reserved.WORLD_IPV6)


def test_a_flow_is_judged_on_both_sides_where_there_is_an_endpoint() -> None:
    found = cluster()
    inside, outside = found.find("shop/db-1"), found.find("192.0.2.1")
    verdict = found.judge(outside, inside, protocol=6, port=80)
    assert (verdict.egress, verdict.allowed) == (None, True)
    assert not found.judge(found.find("lone"), inside, protocol=6, port=80).allowed
    near, other = found.find("near"), found.find("shop/db-2")
    assert [found.judge(near, inside, protocol=6, port=port).allowed for port in (5432, 5433)] == [True, False]
    assert [found.judge(near, other, protocol=6, port=port).allowed for port in (5432, 5433)] == [False, True]


@pytest.mark.parametrize("mode", ["always", "never"])
def test_the_mode_of_a_description_is_that_of_its_engine(mode: str) -> None:
    found = cluster(mode=mode)
    verdict = found.judge(found.find("lone"), found.find("shop/db-1"), protocol=6, port=80)
    assert verdict.allowed is (mode == "never")


def test_policies_beside_a_description_count_too() -> None:
    description = read_description(json.dumps({"pods": PODS}), "cluster.json")
    assert build_cluster(description).policies == {}
    beside = build_cluster(description, more_policies=json.dumps(POLICY))
    assert list(beside.policies) == ["CiliumNetworkPolicy/shop/db"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pods": [{"name": "a"}, {"name": "a"}]}, "cluster.json: the pod default/a comes twice"),
        ({"pods": [{"name": "a", "addresses": ["10.0.0.300"]}]}, "10.0.0.300"),
        ({"entities": ["moon"]}, "'moon': is no pod, identity, entity or address"),
        ({"identities": [{"id": 1, "labels": [";"]}]}, "label ';'"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadDescription, match=message):
        cluster(**change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cluster.json: "),
        ("a: [", "cluster.json: "),
        ('{"pod": []}', "unknown field `pod`"),
        ('{"pods": [{"labels": {}}]}', "missing required field `name`"),
        ('{"mode": "sometimes"}', "sometimes"),
        ('{"pods": [{"name": "a", "ports": [{"name": "x", "port": 1, "protocol": "ICMP"}]}]}', "ICMP"),
        ("- a", "Expected `object`, got `array`"),
    ],
)
def test_a_text_that_describes_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadDescription, match=message.replace("[", r"\[")):
        read_description(text, "cluster.json")


def test_every_pair_of_parties_is_judged_at_every_port_and_nobody_against_itself() -> None:
    found = cluster(entities=["host"], addresses=["192.0.2.1"])
    rows = list(judge_all(found, ["80/TCP", "sql/TCP"]))
    count = len(found.parties)
    assert len(rows) == 2 * count * (count - 1)
    assert all(row.source != row.destination for row in rows)
    unnamed = [row for row in rows if row.port == "sql"]
    assert {row.allowed for row in unnamed} == {None}
    assert {row.destination for row in unnamed} == found.parties.keys() - {"shop/db-1", "shop/db-2"}


def test_cases_take_patterns_and_tell_which_rules_they_touch() -> None:
    case = {"sources": ["192.0.2.1"], "destinations": ["shop/db-*"], "ports": ["80/TCP"], "expect": "allowed"}
    results = run_cases(cluster(cases=[case]))
    assert (results.flows, results.broken, results.coverage_percent) == (2, (), 50.0)
    assert [rule.rule for rule in results.missed] == ["spec.ingress[1]"]
    (broken,) = run_cases(cluster(cases=[{**case, "sources": ["lone"], "destinations": ["shop/db-1"]}])).broken
    assert (broken.case, broken.expected, broken.explained is not None) == ("case 1", "allowed", True)
    with pytest.raises(BadDescription, match="matches no pod"):
        run_cases(cluster(cases=[{**case, "destinations": ["moon/*"]}]))


def test_identities_of_pods_are_counted_from_where_a_cluster_allocates() -> None:
    assert min(cluster().pods[name] for name in ("shop/db-1", "default/lone")) >= Identity(256)
