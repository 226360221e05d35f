"""Nouns that show what a cluster has: nodes, endpoints, identities, addresses, maps."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from cilia.contracts.agent import EndpointReference, EndpointState, MapContents, MapList, MapQuery, MapSummary
from cilia.contracts.ids import EndpointId, Revision
from cilia.contracts.ipam import UnregisterNode
from cilia.contracts.messages import Empty, Revised
from cilia.contracts.tables import Staleness
from tests.unit.commands.fake_cluster import REFUSED, UNAVAILABLE, FakeCluster
from tests.unit.commands.samples import ENDPOINTS, IDENTITIES, LOCAL, NODE2, NODES

TABLES: dict[str, Mapping[Any, Any] | Exception] = {"nodes": NODES, "endpoints": ENDPOINTS, "identities": IDENTITIES}


def test_nodes_are_listed_by_name(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    run = cluster.run("node", "list")
    assert run.code == 0
    assert run.table == [
        ["NODE", "HEARTBEAT", "ADDRESS", "POD CIDRS", "LABELS"],
        ["node1", "heard", "172.31.0.11,fd00:31::11", "10.244.0.0/26,fd00:10::/64", "zone=a"],
        ["node2", "heard", "172.31.0.12", "10.244.0.64/26"],
    ]
    assert cluster.run("node", "list", "-o", "json").json == [
        {
            "name": "node1",
            "ipv4": "172.31.0.11",
            "ipv6": "fd00:31::11",
            "labels": ["zone=a"],
            "pod_cidrs": ["10.244.0.0/26", "fd00:10::/64"],
            "addresses": [],
            "stale_since_ns": 0,
        },
        {
            "name": "node2",
            "ipv4": "172.31.0.12",
            "ipv6": "",
            "labels": [],
            "pod_cidrs": ["10.244.0.64/26"],
            "addresses": [],
            "stale_since_ns": 0,
        },
    ]


def test_a_stale_node_is_listed_with_the_time_for_which_it_is_silent(cluster: FakeCluster) -> None:
    since_ns = time.time_ns() - 3_900 * 10**9
    cluster.tables = TABLES | {"stale": {NODE2: Staleness(since_ns)}}
    assert [row[1] for row in cluster.run("node", "list").table] == ["HEARTBEAT", "heard", "stale for 1h05m"]
    assert cluster.run("node", "list", "-o", "json").json[1]["stale_since_ns"] == since_ns


def test_a_node_is_removed_if_it_is_stale_or_by_force(cluster: FakeCluster) -> None:
    cluster.answers["request.ipam.unregister"] = Revised(Revision(9))
    assert cluster.run("node", "delete", "node2").err == "node node2 is removed\n"
    assert cluster.run("node", "delete", "node2", "--force").code == 0
    asked = [request.message for request in cluster.requests]
    assert asked == [UnregisterNode(NODE2, only_stale=True), UnregisterNode(NODE2)]
    cluster.answers["request.ipam.unregister"] = REFUSED
    assert cluster.run("node", "delete", "node2").code != 0


def test_endpoints_are_listed_by_namespace_and_name(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    run = cluster.run("endpoint", "list")
    assert run.table == [
        ["ENDPOINT", "IPV4", "IPV6", "IDENTITY", "NODE", "ID"],
        ["default/probe", "-", "fd00:10::3", "500", "node1", "8"],
        ["shop/db", "10.244.0.66", "-", "400", "node2", "1"],
        ["shop/web", "10.244.0.2", "fd00:10::2", "300", "node1", "7"],
    ]
    assert [row["name"] for row in cluster.run("endpoint", "list", "-o", "json").json] == ["probe", "db", "web"]


def test_identities_are_listed_with_the_reserved_ones_first(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    rows = cluster.run("identity", "list").table
    assert rows[1:3] == [["0", "reserved:unknown"], ["1", "reserved:host"]]
    assert rows[-2:] == [
        ["300", "k8s:app=web k8s:io.kubernetes.pod.namespace=shop"],
        ["400", "k8s:app=db k8s:io.kubernetes.pod.namespace=shop"],
    ]
    found = {row["identity"]: row for row in cluster.run("identity", "list", "-o", "json").json}
    assert (found[1]["reserved"], found[300]["reserved"]) == (True, False)
    assert found[300]["labels"] == list(IDENTITIES[300].labels)  # type: ignore[index]


@pytest.mark.parametrize(("number", "labels"), [("300", "k8s:app=web"), ("6", "reserved:remote-node")])
def test_one_identity_is_shown_by_its_number(cluster: FakeCluster, number: str, labels: str) -> None:
    cluster.tables = TABLES
    ((_, _), (found, text)) = cluster.run("identity", "get", number).table
    assert (found, text.split()[0]) == (number, labels)


def test_a_number_that_is_no_identity_is_named(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    run = cluster.run("identity", "get", "4711")
    assert (run.code, run.out, run.err) == (1, "", "cilia: no identity 4711; 'cilia identity list' shows them\n")


def test_addresses_are_listed_with_their_owners(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    rows = cluster.run("ip", "list").table
    assert rows[0] == ["ADDRESS", "OWNER", "KIND", "IDENTITY", "NODE"]
    assert rows[1:4] == [
        ["172.31.0.11", "node1", "node", "-", "node1"],
        ["fd00:31::11", "node1", "node", "-", "node1"],
        ["172.31.0.12", "node2", "node", "-", "node2"],
    ]
    assert ["fd00:10::2", "shop/web", "endpoint", "300", "node1"] in rows
    assert len(rows) == 1 + 3 + 4, "what has no address of a family has no row for it"
    assert {row["address"]: row["identity"] for row in cluster.run("ip", "list", "-o", "json").json}[
        "10.244.0.66"
    ] == 400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node", "list"), "no nodes"),
        (("endpoint", "list"), "no endpoints"),
        (("ip", "list"), "no addresses in use"),
        (("policy", "list"), "no policies"),
        (("status",), "no nodes"),
    ],
    ids=" ".join,
)
def test_an_empty_cluster_prints_nothing_to_parse(cluster: FakeCluster, words: tuple[str, ...], said: str) -> None:
    run = cluster.run(*words)
    assert (run.code, run.out, run.err) == (0, "", f"{said}\n")
    assert cluster.run(*words, "-o", "json").json in ([], {})


@pytest.mark.parametrize("name", ["shop/web", "node1/7"])
def test_an_endpoint_is_shown_as_its_node_knows_it(cluster: FakeCluster, name: str) -> None:
    cluster.tables = TABLES
    cluster.answers["node.node1.endpoint-get"] = LOCAL
    run = cluster.run("endpoint", "get", name)
    shown = dict(line.split(":", 1) for line in run.out.splitlines())
    assert {key: value.strip() for key, value in shown.items()} | {"labels": "", "mac": ""} == {
        "id": "7",
        "namespace": "shop",
        "name": "web",
        "node": "node1",
        "state": "ready",
        "identity": "300",
        "labels": "",
        "ipv4": "10.244.0.2",
        "gateway": "10.244.0.1",
        "mac": "",
        "interface": "eth0",
        "host interface": "lxc7",
        "ifindex": "12",
        "netns": "/run/netns/web",
        "policy revision": "41",
        "ipv6": "",
        "gateway ipv6": "",
        "audit": "False",
        "known everywhere": "True",
        "unaware nodes": "",
    }
    assert shown["labels"].strip() == "k8s:app=web k8s:tier=front"
    assert cluster.messages("node.node1.endpoint-get") == [EndpointReference(id=EndpointId(7))]


def test_a_name_without_a_namespace_is_of_the_default_one(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    cluster.answers["node.node1.endpoint-get"] = msgspec.structs.replace(LOCAL, state=EndpointState.DISCONNECTING)
    run = cluster.run("endpoint", "get", "probe", "-o", "json")
    assert run.json["state"] == "disconnecting"
    assert cluster.messages("node.node1.endpoint-get") == [EndpointReference(id=EndpointId(8))]


@pytest.mark.parametrize("name", ["web", "shop/cart", "node2/7", "node9/1", ""])
@pytest.mark.parametrize("verb", [("get",), ("delete",), ("relabel", "-l", "a=b"), ("audit",)])
def test_an_endpoint_that_is_not_there_is_named(cluster: FakeCluster, verb: tuple[str, ...], name: str) -> None:
    cluster.tables = TABLES
    run = cluster.run("endpoint", *verb, name, *(("on",) if verb == ("audit",) else ()))
    assert (run.code, run.err) == (1, f"cilia: no endpoint {name!r}; 'cilia endpoint list' names them\n")
    assert cluster.requests == []


@pytest.mark.parametrize(("given", "namespace", "name"), [("lab/probe", "lab", "probe"), ("probe", "default", "probe")])
def test_a_network_namespace_is_connected_with_its_labels(
    cluster: FakeCluster, given: str, namespace: str, name: str
) -> None:
    cluster.answers["node.node2.endpoint-create"] = LOCAL
    words = ("endpoint", "create", "--node", "node2", given, "--netns", "/run/netns/web")
    run = cluster.run(*words, "-l", "app=web", "--label", "tier=a=b", "--namespace-label", "team=x", "-o", "json")
    assert run.json["id"] == 7
    (request,) = cluster.messages("node.node2.endpoint-create")
    assert (request.namespace, request.name, request.netns) == (namespace, name, "/run/netns/web")
    assert (request.labels, request.namespace_labels) == ({"app": "web", "tier": "a=b"}, {"team": "x"})


def test_labels_are_replaced_and_audits_switched_on_the_endpoints_node(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    cluster.answers |= {f"node.node2.endpoint-{call}": LOCAL for call in ("relabel", "audit")}
    assert cluster.run("endpoint", "relabel", "shop/db", "-l", "app=web").code == 0
    assert cluster.run("endpoint", "audit", "shop/db", "on").code == 0
    assert cluster.run("endpoint", "audit", "shop/db", "off").code == 0
    (relabel,) = cluster.messages("node.node2.endpoint-relabel")
    assert (relabel.endpoint, relabel.labels) == (EndpointReference(id=EndpointId(1)), {"app": "web"})
    assert [request.audit for request in cluster.messages("node.node2.endpoint-audit")] == [True, False]


def test_an_endpoint_is_deleted_on_its_node(cluster: FakeCluster) -> None:
    cluster.tables = TABLES
    cluster.answers["node.node2.endpoint-delete"] = Empty()
    run = cluster.run("endpoint", "delete", "shop/db")
    assert (run.code, run.out, run.err) == (0, "", "endpoint shop/db deleted\n")
    assert cluster.messages("node.node2.endpoint-delete") == [EndpointReference(id=EndpointId(1))]


MAPS = MapList(
    (
        MapSummary("cilia_ipcache", "lpm_trie", 24, 12, 17, 512_000, 4_200_000),
        MapSummary("cilia_ct", "lru_hash", 40, 56, -1, 131_072, 17_000_000),
    )
)


def test_maps_of_a_node_are_listed(cluster: FakeCluster) -> None:
    cluster.answers["node.node1.map-list"] = MAPS
    assert cluster.run("map", "list", "--node", "node1").table == [
        ["MAP", "KIND", "ENTRIES", "MAX", "MEMORY"],
        ["cilia_ipcache", "lpm_trie", "17", "512000", "4.2 MB"],
        ["cilia_ct", "lru_hash", "?", "131072", "17.0 MB"],
    ]
    assert cluster.run("map", "list", "--node", "node1", "-o", "json").json[1]["entries"] == -1


def test_entries_of_a_map_are_shown_with_the_fields_of_key_and_value(cluster: FakeCluster) -> None:
    entry: tuple[dict[str, int | str], dict[str, int | str]] = (
        {"prefix": "10.0.0.0/8", "cluster": 0},
        {"identity": 16_777_217, "tunnel": "0.0.0.0"},
    )
    cluster.answers["node.node1.map-get"] = MapContents("cilia_ipcache", (entry,), truncated=True)
    run = cluster.run("map", "get", "--node", "node1", "cilia_ipcache", "--limit", "1")
    assert run.table == [
        ["PREFIX", "CLUSTER", "IDENTITY", "TUNNEL"],
        ["10.0.0.0/8", "0", "16777217", "0.0.0.0"],
    ]
    assert run.err == "only the first 1: --limit shows more\n"
    assert cluster.messages("node.node1.map-get") == [MapQuery("cilia_ipcache", 1)]
    assert cluster.run("map", "get", "--node", "node1", "cilia_ipcache", "-o", "json").json == [
        {"key": entry[0], "value": entry[1]}
    ]


def test_an_empty_map_says_so(cluster: FakeCluster) -> None:
    cluster.answers["node.node1.map-get"] = MapContents("cilia_nat", ())
    run = cluster.run("map", "get", "--node", "node1", "cilia_nat")
    assert (run.code, run.out, run.err) == (0, "", "cilia_nat is empty\n")


TALKING = [
    ("node", "list"),
    ("endpoint", "list"),
    ("identity", "list"),
    ("identity", "get", "300"),
    ("ip", "list"),
    ("map", "list", "--node", "node1"),
    ("map", "get", "--node", "node1", "cilia_ct"),
    ("endpoint", "get", "shop/web"),
    ("endpoint", "delete", "shop/web"),
    ("endpoint", "audit", "shop/web", "on"),
    ("endpoint", "relabel", "shop/web", "-l", "a=b"),
    ("endpoint", "create", "--node", "node1", "web", "--netns", "/run/netns/web"),
    ("flows",),
    ("policy", "list"),
    ("policy", "get", "shop/db"),
    ("policy", "get", "--endpoint", "shop/web"),
    ("policy", "apply", "-f", "-"),
    ("policy", "delete", "shop/db"),
    ("policy", "wait"),
    ("policy", "mode"),
    ("policy", "mode", "always"),
    ("policy", "audit", "on"),
    ("policy", "history"),
    ("policy", "rollback", "41"),
    ("policy", "blame", "a", "b", "80/TCP"),
    ("policy", "explain", "--from", "a", "--to", "b", "--port", "80/TCP"),
    ("policy", "shadow"),
    ("policy", "promote", "shop/web"),
    ("policy", "unused"),
    ("policy", "generate", "--from-flows"),
    ("policy", "diff", "--delete", "shop/db"),
]


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("words", TALKING, ids=" ".join)
def test_a_cluster_that_does_not_answer_exits_with_3_and_one_line(
    cluster: FakeCluster, words: tuple[str, ...], output: str
) -> None:
    cluster.tables = dict.fromkeys(("nodes", "endpoints", "identities", "policies"), UNAVAILABLE)
    run = cluster.run(*words, *(("-o", output) if words[1:2] != ("delete",) or words[0] == "policy" else ()))
    assert (run.code, run.out) == (3, "")
    assert run.err.splitlines()[-1].startswith("cilia: ")
    assert " is unavailable: " in run.err
    assert cluster.sessions == 1


ASKING = {
    "node.node1.endpoint-get": ("endpoint", "get", "shop/web"),
    "node.node1.endpoint-create": ("endpoint", "create", "--node", "node1", "web", "--netns", "/run/netns/web"),
    "node.node1.endpoint-delete": ("endpoint", "delete", "shop/web"),
    "node.node1.map-get": ("map", "get", "--node", "node1", "cilia_nothing"),
    "node.node1.policy-get": ("policy", "get", "--endpoint", "shop/web"),
    "request.policy.apply": ("policy", "apply", "-f", "-"),
    "request.policy.explain": ("policy", "explain", "--from", "a", "--to", "b", "--port", "80/TCP"),
    "request.policy.history": ("policy", "history"),
    "request.policy.rollback": ("policy", "rollback", "41"),
    "request.policy.wait": ("policy", "wait", "7"),
    "request.recorder.flows": ("flows",),
}


@pytest.mark.parametrize("subject", ASKING)
def test_a_refusal_exits_with_1_and_names_field_and_value(cluster: FakeCluster, subject: str) -> None:
    cluster.tables = TABLES
    cluster.answers[subject] = REFUSED
    run = cluster.run(*ASKING[subject])
    assert (run.code, run.out) == (1, "")
    assert run.err.splitlines()[-1] == "cilia: invalid: it makes no sense (field text: 'odd')"


@pytest.mark.parametrize("subject", [subject for subject in ASKING if "endpoint" in subject or "map" in subject])
def test_an_agent_is_given_more_time_than_a_table_is(cluster: FakeCluster, subject: str) -> None:
    cluster.tables = TABLES
    cluster.run(*ASKING[subject])
    assert [(request.subject, request.timeout) for request in cluster.requests] == [(subject, 15.0)]
