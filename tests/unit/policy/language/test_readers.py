"""Readers of policies: ports, peers, prefixes, entities and scopes become typed rules, by table."""

import json
from ipaddress import ip_network

import pytest

from cilia.policy.engine.rules import (
    NAMESPACED,
    Block,
    NamedPort,
    Operator,
    Policy,
    PortRange,
    Requirement,
    Rule,
    Selector,
)
from cilia.policy.errors import BadPolicy
from cilia.policy.language.documents import read_documents
from cilia.policy.language.parse import parse_policies, put_in_shadow

NAMESPACE = "io.kubernetes.pod.namespace"
SHOP = Requirement("k8s", NAMESPACE, Operator.IN, ("shop",))


def cilium(**spec: object) -> Policy:
    body = {"endpointSelector": {}, **spec}
    metadata = {"name": "p", "namespace": "shop"}
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": body}
    (parsed,) = parse_policies(json.dumps(document))
    return parsed.policy


def kubernetes(**spec: object) -> Policy:
    metadata = {"name": "p", "namespace": "shop"}
    body = {"podSelector": {}, **spec}
    document = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": body}
    (parsed,) = parse_policies(json.dumps(document))
    return parsed.policy


def only_rule(policy: Policy) -> Rule:
    ((rule,),) = (spec.rules for spec in policy.specs)
    return rule


@pytest.mark.parametrize("own", ["a" * 63, f"{'team.' * 49}example/{'a' * 63}", "team"])
def test_a_key_of_a_namespaces_label_is_as_long_as_any_other(own: str) -> None:
    key = f"io.cilium.k8s.namespace.labels.{own}"
    for source in ("", "k8s:"):
        rule = only_rule(cilium(ingress=[{"fromEndpoints": [{"matchLabels": {source + key: "red"}}]}]))
        assert rule.peers is not None
        assert key in {requirement.key for requirement in rule.peers[0].requirements}
    with pytest.raises(BadPolicy, match="is no label key"):
        cilium(ingress=[{"fromEndpoints": [{"matchLabels": {key + "a" * 64: "red"}}]}])


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        ({"port": "80", "protocol": "TCP"}, (PortRange(6, 80, 80),)),
        ({"port": "80"}, (PortRange(6, 80, 80), PortRange(17, 80, 80), PortRange(132, 80, 80))),
        ({"port": "80", "endPort": 90, "protocol": "UDP"}, (PortRange(17, 80, 90),)),
        ({"port": "0", "protocol": "TCP"}, (PortRange(6),)),
        ({"port": "HTTP", "protocol": "TCP"}, (NamedPort(6, "http"),)),
        ({"port": "0", "protocol": "GRE"}, (PortRange(47),)),
        ({"protocol": "esp"}, (PortRange(50),)),
    ],
)
def test_a_port_of_cilium(port: dict[str, object], ports: tuple[PortRange | NamedPort, ...]) -> None:
    assert only_rule(cilium(ingress=[{"toPorts": [{"ports": [port]}]}])).ports == ports


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        ({}, (PortRange(6),)),
        ({"port": 80}, (PortRange(6, 80, 80),)),
        ({"port": 80, "endPort": 90, "protocol": "SCTP"}, (PortRange(132, 80, 90),)),
        ({"port": "http", "protocol": "UDP"}, (NamedPort(17, "http"),)),
    ],
)
def test_a_port_of_kubernetes(port: dict[str, object], ports: tuple[PortRange | NamedPort, ...]) -> None:
    assert only_rule(kubernetes(ingress=[{"ports": [port]}])).ports == ports


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ({"type": 8}, PortRange(1, 8, 8)),
        ({"type": "8"}, PortRange(1, 8, 8)),
        ({"type": "EchoRequest"}, PortRange(1, 8, 8)),
        ({"type": "EchoRequest", "family": "IPv6"}, PortRange(58, 128, 128)),
        ({"type": "NeighborSolicitation", "family": "IPv6"}, PortRange(58, 135, 135)),
    ],
)
def test_a_type_of_icmp(field: dict[str, object], number: PortRange) -> None:
    assert only_rule(cilium(ingress=[{"icmps": [{"fields": [field]}]}])).ports == (number,)


def exists(key: str, source: str = "reserved") -> Selector:
    return Selector((Requirement(source, key, Operator.EXISTS),))


def labels(*requirements: Requirement) -> Selector:
    return Selector(requirements)


APP = Requirement("any", "app", Operator.IN, ("web",))


@pytest.mark.parametrize(
    ("rule", "peers"),
    [
        ({}, ()),
        ({"fromEndpoints": [{}]}, (labels(SHOP),)),
        ({"fromEndpoints": []}, ()),
        ({"fromEndpoints": [{"matchLabels": {"app": "web"}}]}, (labels(APP, SHOP),)),
        (
            {"fromEndpoints": [{"matchLabels": {f"k8s:{NAMESPACE}": "lab"}}]},
            (labels(Requirement("k8s", NAMESPACE, Operator.IN, ("lab",))),),
        ),
        ({"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]}, None),
        ({"fromEntities": ["all"]}, None),
        ({"fromEntities": ["none"]}, ()),
        ({"fromEntities": ["host", "host"]}, (exists("host"),)),
        ({"fromEntities": ["world"]}, tuple(map(exists, ("world", "world-ipv4", "world-ipv6")))),
        ({"fromCIDR": ["10.0.0.1/8"]}, (exists("10.0.0.0/8", "cidr"),)),
        ({"fromCIDR": ["10.0.0.1"]}, (exists("10.0.0.1/32", "cidr"),)),
        (
            {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]},
            (
                labels(
                    Requirement("cidr", "10.0.0.0/8", Operator.EXISTS),
                    Requirement("cidr", "10.1.0.0/16", Operator.ABSENT),
                ),
            ),
        ),
    ],
)
def test_peers_of_a_rule(rule: dict[str, object], peers: tuple[Selector, ...] | None) -> None:
    found = only_rule(cilium(ingress=[rule]))
    if rule == {"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]}:
        ((requirement,),) = (peer.requirements for peer in found.peers or ())
        assert (requirement.source, requirement.key) == ("reserved", "host")
    else:
        assert found.peers == peers


@pytest.mark.parametrize(
    ("expression", "requirement"),
    [
        (
            {"key": "app", "operator": "In", "values": ["b", "a", "b"]},
            Requirement("any", "app", Operator.IN, ("a", "b")),
        ),
        ({"key": "k8s:app", "operator": "NotIn", "values": ["a"]}, Requirement("k8s", "app", Operator.NOT_IN, ("a",))),
        ({"key": "app", "operator": "Exists"}, Requirement("any", "app", Operator.EXISTS)),
        ({"key": "app", "operator": "DoesNotExist", "values": []}, Requirement("any", "app", Operator.ABSENT)),
    ],
)
def test_an_expression(expression: dict[str, object], requirement: Requirement) -> None:
    found = only_rule(cilium(egress=[{"toEndpoints": [{"matchExpressions": [expression]}]}]))
    assert found.peers is not None
    assert requirement in found.peers[0].requirements


def test_peers_of_kubernetes_are_pods_of_the_namespace_or_of_others_or_addresses() -> None:
    web = Requirement("k8s", "app", Operator.IN, ("web",))
    team = Requirement("k8s", "io.cilium.k8s.namespace.labels.team", Operator.IN, ("red",))
    pods, teams, block = {"matchLabels": {"app": "web"}}, {"matchLabels": {"team": "red"}}, {"cidr": "10.0.0.0/8"}
    peers = [
        {"podSelector": pods},
        {"namespaceSelector": teams},
        {"namespaceSelector": teams, "podSelector": pods},
        {"ipBlock": {**block, "except": ["10.1.0.0/16"]}},
    ]
    own, others, both, addresses = only_rule(kubernetes(ingress=[{"from": peers}])).peers or ()
    assert set(own.requirements) == {web, SHOP}
    assert set(others.requirements) == {team, NAMESPACED}
    assert set(both.requirements) == {team, web, NAMESPACED}
    assert addresses.block == Block(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ({"ingress": [{}]}, (True, False)),
        ({"egressDeny": [{}]}, (False, True)),
        ({"ingress": [{}], "egress": [{}]}, (True, True)),
        ({"ingress": [{}], "enableDefaultDeny": {"ingress": False}}, (False, False)),
        ({"ingress": [{}], "egress": [{}], "enableDefaultDeny": {"egress": False}}, (True, False)),
    ],
)
def test_a_direction_with_rules_is_closed_unless_told_otherwise(
    spec: dict[str, object], isolates: tuple[bool, bool]
) -> None:
    (found,) = cilium(**spec).specs
    assert (found.isolates_ingress, found.isolates_egress) == isolates


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ({}, (True, False)),
        ({"egress": [{}]}, (True, True)),
        ({"policyTypes": ["Egress"]}, (False, True)),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, (True, False)),
    ],
)
def test_types_of_a_kubernetes_policy(spec: dict[str, object], isolates: tuple[bool, bool]) -> None:
    (found,) = kubernetes(**spec).specs
    assert (found.isolates_ingress, found.isolates_egress) == isolates


def test_each_rule_knows_its_path() -> None:
    many = cilium(ingress=[{}, {}], ingressDeny=[{}], egress=[{}])
    assert [rule.path for spec in many.specs for rule in spec.rules] == [
        "spec.ingress[0]",
        "spec.ingress[1]",
        "spec.ingressDeny[0]",
        "spec.egress[0]",
    ]


def test_a_field_knows_its_line_in_yaml_and_its_path_in_json() -> None:
    (field,) = read_documents("a:\n  b:\n  - c: 1\n", "web.yaml")
    assert {path: field.document.lines[path] for path in ("a", "a.b", "a.b[0].c")} == {"a": 1, "a.b": 2, "a.b[0].c": 3}
    (item,) = read_documents('{"a.b": [true]}', "-")
    ((name, value),) = item.mapping()
    assert (name, value.path, value.items()[0].path) == ("a.b", "[a.b]", "[a.b][0]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("010", "010"),
        ("0x50", "0x50"),
        ("1.5", "1.5"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("'1'", "1"),
        ("2026-01-01", "2026-01-01"),
    ],
)
def test_a_scalar_of_yaml_is_what_kubernetes_takes_it_for(text: str, value: object) -> None:
    (field,) = read_documents(f"a: {text}\n", "")
    assert isinstance(field.value, dict)
    assert field.value["a"] == value
    assert type(field.value["a"]) is type(value)


def test_a_document_is_canonical_and_shadow_is_one_annotation_of_it() -> None:
    texts = ("ingress: [{}], endpointSelector: {}", "endpointSelector: {}, ingress: [{}]")
    head = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, uid: x}, status: {}, spec: {%s}}"
    one, other = (parse_policies(head % text)[0] for text in texts)
    assert one.document == other.document
    assert "uid" not in one.document
    shadow = put_in_shadow(one, True)
    assert (shadow.policy.shadow, parse_policies(shadow.document)[0].policy.shadow) == (True, True)
    assert put_in_shadow(shadow, False).document == one.document
