"""Each mistake is refused by a message that names document, field and value."""

import pytest

from cilia.policy.errors import BadPolicy, NotEnforced
from cilia.policy.language import documents
from cilia.policy.language.parse import parse_policies
from tests.unit.policy.language.mistakes import CNP, NP, assert_refused, cnp, http, np, peer, ports

PORT = "spec.ingress[0].toPorts[0].ports[0]"
TO = "spec.egress[0].toEndpoints[0]"
SET = "spec.egress[0].toCIDRSet[0]"
BAD = [
    # documents
    ("a: [", "", "is no YAML"),
    ("- a", "", "must be a mapping"),
    ("{}", "kind", "is required"),
    ("kind: Pod", "kind", "must be one of"),
    ("kind: 3", "kind", "must be a string"),
    ("kind: CiliumNetworkPolicy", "apiVersion", "is required"),
    ("{kind: NetworkPolicy, apiVersion: extensions/v1beta1}", "apiVersion", "networking.k8s.io/v1"),
    ("{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1}", "metadata", "is required"),
    ("{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {}}", "metadata.name", "is required"),
    (NP.replace("name: p,", "name: P_1,"), "metadata.name", "is no name"),
    (NP.replace("space: x", "space: -x"), "metadata.namespace", "is no namespace"),
    (NP.replace("name: p,", "name: p, owner: me,"), "metadata.owner", "unknown field"),
    (NP.replace("name: p,", "name: p, labels: {a: 1},"), "metadata.labels.a", "must be a string"),
    (NP, "spec", "is required"),
    (CNP.replace("namespace: x", "namespace: x}\nmetadata: {name: q"), "metadata", "given twice"),
    ('{"kind": "NetworkPolicy", "kind": "NetworkPolicy"}', "kind", "given twice"),
    (CNP.replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"), "metadata.namespace", "has no namespace"),
    ("{kind: List, items: {}}", "items", "must be a list"),
    ("{kind: List, items: [{kind: Pod}]}", "items[0].kind", "must be one of"),
    # shape
    (cnp("ingress: {}"), "spec.ingress", "must be a list"),
    (cnp("ingress: [3]"), "spec.ingress[0]", "must be a mapping"),
    (cnp("ingres: [{}]"), "spec.ingres", "unknown field"),
    (cnp("ingress: []"), "spec", "at least one rule"),
    (CNP, "spec", "at least one rule"),
    (cnp("ingress: [{fromEndpoint: [{}]}]"), "spec.ingress[0].fromEndpoint", "is fromEndpoints meant?"),
    (cnp("ingress: [{toEndpoints: [{}]}]"), "spec.ingress[0].toEndpoints", "unknown field"),
    (cnp("ingress: [{}]\nenableDefaultDeny: {ingress: 'no'}"), "spec.enableDefaultDeny.ingress", "true or false"),
    (cnp("ingress: [{}]\nnodeSelector: {}"), "spec.nodeSelector", "CiliumClusterwideNetworkPolicy"),
    (cnp("ingress: [{}]\ndescription: 3"), "spec.description", "must be a string"),
    (CNP.replace("endpointSelector: {}", "ingress: [{}]"), "spec.endpointSelector", "is required"),
    (cnp("ingress: [{fromRequires: [{}]}]"), "spec.ingress[0].fromRequires", "was removed"),
    # selectors
    (peer("toEndpoints: [{matchLabels: {a: 1}}]"), TO + ".matchLabels.a", "must be a string"),
    (peer("toEndpoints: [{matchLabels: {a: b c}}]"), TO + ".matchLabels.a", "no label value"),
    (peer("toEndpoints: [{matchLabels: {a b: c}}]"), TO + ".matchLabels[a b]", "no label key"),
    (peer("toEndpoints: [{matchLabels: {a/b/c: d}}]"), TO + ".matchLabels[a/b/c]", "label key"),
    (peer("toEndpoints: [{matchLabels: {'foo:a': b}}]"), TO + ".matchLabels[foo:a]", "no source"),
    (peer("toEndpoints: [{matchLabel: {}}]"), TO + ".matchLabel", "is matchLabels meant?"),
    (peer("toEndpoints: [{matchExpressions: [{key: a}]}]"), TO + ".matchExpressions[0].operator", "is required"),
    (peer("toEndpoints: [{matchExpressions: [{operator: In}]}]"), TO + ".matchExpressions[0].key", "is required"),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: Gt}]}]"),
        TO + ".matchExpressions[0].operator",
        "must be one of",
    ),
    (peer("toEndpoints: [{matchExpressions: [{key: a, operator: In}]}]"), TO + ".matchExpressions[0]", "needs values"),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]"),
        TO + ".matchExpressions[0].values",
        "takes no values",
    ),
    (peer("toEndpoints: [{matchLabels: {'cidr:10.0.0/8': ''}}]"), TO + ".matchLabels[cidr:10.0.0/8]", "no CIDR"),
    # peers
    (peer("toEntities: [World]"), "spec.egress[0].toEntities[0]", "must be one of all"),
    (peer("toEntities: world"), "spec.egress[0].toEntities", "must be a list"),
    (peer("toCIDR: [10.0.0.0/33]"), "spec.egress[0].toCIDR[0]", "no CIDR"),
    (peer("toCIDR: [10.0.0.0/255.0.0.0]"), "spec.egress[0].toCIDR[0]", "no CIDR"),
    (peer("toCIDR: [010.0.0.0/8]"), "spec.egress[0].toCIDR[0]", "no CIDR"),
    (peer("toCIDR: ['fe80::1%eth0']"), "spec.egress[0].toCIDR[0]", "zone"),
    (peer("toCIDR: ['']"), "spec.egress[0].toCIDR[0]", "no CIDR"),
    (peer("toCIDRSet: [{}]"), SET, "exactly one of cidr"),
    (peer("toCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: g}]"), SET, "exactly one of cidr"),
    (peer("toCIDRSet: [{cidr: 10.0.0.1}]"), SET + ".cidr", "no CIDR"),
    (peer("toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]"), SET + ".except[0]", "outside of 10.0.0.0/8"),
    (peer("toEndpoints: [{}], toCIDR: [10.0.0.0/8]"), "spec.egress[0].toCIDR", "can't be combined with toEndpoints"),
    (peer("toEndpoints: [{}], toEntities: [all]"), "spec.egress[0].toEntities", "can't be combined with toEndpoints"),
    # ports
    (ports("{port: 80}"), f"{PORT}.port", "must be a string"),
    (ports("{protocol: TCP}"), f"{PORT}.port", "is required"),
    (ports("{port: '65536'}"), f"{PORT}.port", "0 to 65535"),
    (ports("{port: '99999', protocol: TCP}"), f"{PORT}.port", "0 to 65535"),
    (ports("{port: ''}"), f"{PORT}.port", "every port"),
    (ports("{port: '0x50'}"), f"{PORT}.port", "not a decimal number"),
    (ports("{port: '0120'}"), f"{PORT}.port", "not a decimal number"),
    (ports("{port: '-1'}"), f"{PORT}.port", "neither a number nor a port name"),
    (ports("{port: abcdefghijklmnop}"), f"{PORT}.port", "neither a number nor a port name"),
    (ports("{port: '80', protocol: ICMP}"), f"{PORT}.protocol", "must be one of ANY"),
    (ports("{port: '1', protocol: VRRP}"), f"{PORT}.port", "has no ports"),
    (ports("{port: '80', endPort: 79}"), f"{PORT}.endPort", "below the port 80"),
    (ports("{port: '80', endPort: 65536}"), f"{PORT}.endPort", "0 to 65535"),
    (ports("{port: '80', endPort: '90'}"), f"{PORT}.endPort", "whole number"),
    (ports("{port: http, endPort: 90}"), f"{PORT}.endPort", "no range"),
    (ports("{port: '0', endPort: 90}"), f"{PORT}.endPort", "every port"),
    (ports(", ".join(f"{{port: '{i}'}}" for i in range(1, 42))), "spec.ingress[0].toPorts[0].ports", "at most 40"),
    (cnp("ingress: [{toPorts: [{port: []}]}]"), "spec.ingress[0].toPorts[0].port", "is ports meant?"),
    (cnp("ingressDeny: [{toPorts: [{rules: {}}]}]"), "spec.ingressDeny[0].toPorts[0].rules", "unknown field"),
    # ICMP
    (cnp("ingress: [{icmps: [{fields: [{type: 256}]}]}]"), "spec.ingress[0].icmps[0].fields[0].type", "0 to 255"),
    (cnp("ingress: [{icmps: [{fields: [{type: Foo}]}]}]"), "spec.ingress[0].icmps[0].fields[0].type", "no ICMP type"),
    (cnp("ingress: [{icmps: [{fields: [{}]}]}]"), "spec.ingress[0].icmps[0].fields[0].type", "is required"),
    (cnp("ingress: [{icmps: [{fields: [{type: 0}]}]}]"), "spec.ingress[0].icmps[0].fields[0].type", "every type"),
    (cnp("ingress: [{icmps: [{fields: [{type: 8, family: v4}]}]}]"), "spec.ingress[0].icmps[0].fields[0].family", "IPv4, IPv6"),
    (cnp("ingress: [{icmps: [{fields: [{type: 8}]}], toPorts: [{}]}]"), "spec.ingress[0].icmps", "beside toPorts"),
    # layer 7
    (http("rules: {kafka: []}"), "spec.egress[0].toPorts[0].rules.kafka", "was removed"),
    (http("rules: {http: [{path: '*'}]}"), "spec.egress[0].toPorts[0].rules.http[0].path", "no regular expression"),
    (http("rules: {http: [{verb: GET}]}"), "spec.egress[0].toPorts[0].rules.http[0].verb", "unknown field"),
    (http("listener: {name: l}"), "spec.egress[0].toPorts[0].listener.envoyConfig", "is required"),
    (http("terminatingTLS: {}"), "spec.egress[0].toPorts[0].terminatingTLS.secret", "is required"),
    (peer("toFQDNs: [{matchName: a, matchPattern: b}]"), "spec.egress[0].toFQDNs[0]", "exactly one of matchName"),
    (peer("authentication: {mode: maybe}"), "spec.egress[0].authentication.mode", "must be one of disabled"),
    # Kubernetes
    (np("policyTypes: [ingress]"), "spec.policyTypes[0]", "Ingress, Egress"),
    (np("ingress: [{ports: [{port: 0}]}]"), "spec.ingress[0].ports[0].port", "1 to 65535"),
    (np("ingress: [{ports: [{port: HTTP}]}]"), "spec.ingress[0].ports[0].port", "no port name"),
    (np("ingress: [{ports: [{port: 90, endPort: 80}]}]"), "spec.ingress[0].ports[0].endPort", "below the port 90"),
    (np("ingress: [{ports: [{endPort: 80}]}]"), "spec.ingress[0].ports[0].endPort", "needs a port"),
    (np("ingress: [{ports: [{port: http, endPort: 80}]}]"), "spec.ingress[0].ports[0].endPort", "no range"),
    (np("ingress: [{ports: [{protocol: tcp}]}]"), "spec.ingress[0].ports[0].protocol", "TCP, UDP, SCTP"),
    (np("ingress: [{from: [{}]}]"), "spec.ingress[0].from[0]", "needs one of podSelector"),
    (np("ingress: [{to: []}]"), "spec.ingress[0].to", "unknown field"),
    (np("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]"), "spec.egress[0].to[0].ipBlock", "beside"),
    (np("egress: [{to: [{ipBlock: {}}]}]"), "spec.egress[0].to[0].ipBlock.cidr", "is required"),
    (
        np("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]"),
        "spec.egress[0].to[0].ipBlock.except[0]",
        "outside of",
    ),
    (
        np("egress: [{to: [{podSelector: {matchLabels: {'k8s:a': b}}}]}]"),
        "spec.egress[0].to[0].podSelector.matchLabels[k8s:a]",
        "no label key",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "reason"), BAD)
def test_a_mistake_is_refused_with_its_field_and_reason(text: str, path: str, reason: str) -> None:
    assert_refused(text, path, reason)


UNENFORCED = [
    (http("rules: {http: [{method: GET}]}"), "spec.egress[0].toPorts[0].rules"),
    (http("rules: {http: []}"), "spec.egress[0].toPorts[0].rules"),
    (http("serverNames: [a.example]"), "spec.egress[0].toPorts[0].serverNames"),
    (http("terminatingTLS: {secret: {name: s}}"), "spec.egress[0].toPorts[0].terminatingTLS"),
    (http("listener: {name: l, envoyConfig: {name: c}}"), "spec.egress[0].toPorts[0].listener"),
    (peer("toFQDNs: [{matchName: a.example}]"), "spec.egress[0].toFQDNs"),
    (peer("toServices: [{k8sService: {serviceName: s}}]"), "spec.egress[0].toServices"),
    (peer("toGroups: [{aws: {region: r}}]"), "spec.egress[0].toGroups"),
    (peer("toEndpoints: [{}], authentication: {mode: required}"), "spec.egress[0].authentication"),
]


@pytest.mark.parametrize(("text", "path"), UNENFORCED)
def test_what_has_no_effect_yet_is_refused_by_name(text: str, path: str) -> None:
    with pytest.raises(NotEnforced) as caught:
        parse_policies(text)
    assert caught.value.path == path
    assert "not enforced yet" in str(caught.value)


@pytest.mark.parametrize(("text", "path"), UNENFORCED)
def test_what_has_no_effect_yet_opens_nothing_where_it_is_allowed(text: str, path: str) -> None:
    (parsed,) = parse_policies(text, allow_unenforced=True)
    assert path in parsed.unenforced
    assert [rule.peers for rule in parsed.policy.specs[0].rules] == [()]
    assert parsed.policy.specs[0].isolates_egress


def test_a_deny_rule_that_can_not_be_enforced_yet_denies_every_peer() -> None:
    text = cnp("egressDeny: [{toServices: [{k8sService: {serviceName: s}}]}]")
    (parsed,) = parse_policies(text, allow_unenforced=True)
    assert parsed.policy.specs[0].rules[0].peers is None


def test_the_message_names_document_object_line_field_and_value() -> None:
    text = cnp("ingress: [{}]") + "\n---\n" + cnp('ingress:\n- toPorts:\n  - ports:\n    - port: "99999"')
    text = text.replace("name: p", "name: q", 1)
    with pytest.raises(BadPolicy) as caught:
        parse_policies(text, source="web.yaml")
    assert str(caught.value) == (
        "web.yaml, document 2 (CiliumNetworkPolicy x/p), line 18: "
        "spec.ingress[0].toPorts[0].ports[0].port: '99999': must be 0 to 65535"
    )


def test_the_same_object_twice_in_a_text_is_refused() -> None:
    text = cnp("ingress: [{}]")
    with pytest.raises(BadPolicy, match="comes twice"):
        parse_policies(f"{text}\n---\n{text}")


def test_a_text_that_unfolds_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_NODES", 20_000)
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    with pytest.raises(BadPolicy, match="too big"):
        parse_policies(bomb)


def test_a_text_nested_without_end_is_refused() -> None:
    with pytest.raises(BadPolicy, match="nested too deeply"):
        parse_policies('{"a":' + "[" * 100_000)
