"""More mistakes, each refused by a message that names the exact field: wrong types, values,
combinations, at every place.
"""

import pytest

from cilia.policy.language.parse import parse_policies
from tests.unit.policy.language.mistakes import CNP, NP, assert_refused, cnp, http, np, peer, ports
from tests.unit.policy.language.test_bad_input import BAD

CCNP = CNP.replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy").replace(", namespace: x", "")


def ccnp(spec: str) -> str:
    """Return a clusterwide policy with these further fields of ``spec``."""
    return CCNP + "\n".join(f"  {line}" for line in spec.splitlines())


def headed(rest: str) -> str:
    """Return a policy with this in the place of its spec."""
    return CNP.replace("\nspec:\n  endpointSelector: {}", rest)


MORE = [
    ("metadata: {}", "kind", "is required"),
    ("[1, 2]", "", "must be a mapping"),
    ("'text'", "", "must be a mapping"),
    (
        "kind: CiliumNetworkPolicy\napiVersion: cilium.io/v1\nmetadata: {name: p}",
        "apiVersion",
        "must be one of cilium.io/v2",
    ),
    ("kind: CiliumNetworkPolicy\napiVersion: 2", "apiVersion", "must be a string"),
    (CNP.replace("metadata: {name: p, namespace: x}", "metadata: [p]"), "metadata", "must be a mapping"),
    (CNP.replace("name: p,", "name: '',"), "metadata.name", "is no name"),
    (CNP.replace("name: p,", "name: 7,"), "metadata.name", "must be a string"),
    (CNP.replace("name: p,", "name: %s," % ("a" * 254)), "metadata.name", "is no name"),
    (CNP.replace("name: p,", "name: p, annotations: {a: 1},"), "metadata.annotations.a", "must be a string"),
    (CNP.replace("name: p,", "name: p, labels: [a],"), "metadata.labels", "must be a mapping"),
    (CNP.replace("namespace: x", "namespace: X"), "metadata.namespace", "is no namespace"),
    (
        CNP.replace("namespace: x", "namespace: ''"),
        "spec",
        "needs at least one rule in ingress, ingressDeny, egress, egressDeny",
    ),
    (headed("\nspec: []"), "spec", "must be a mapping"),
    (headed("\nspecs: {}"), "specs", "must be a list"),
    (headed("\nspecs: []"), "", "the object has neither spec nor specs"),
    (headed("\nspecs: [3]"), "specs[0]", "must be a mapping"),
    (headed("\nspecs: [{endpointSelector: {}, ingress: [{}], foo: 1}]"), "specs[0].foo", "unknown field"),
    (headed("\nspecs: [{ingress: [{}]}]"), "specs[0].endpointSelector", "is required"),
    (
        headed("\nspecs: [{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: x y}]}]}]}]"),
        "specs[0].egress[0].toPorts[0].ports[0].port",
        "is neither a number nor a port name",
    ),
    (
        CNP.replace("endpointSelector: {}", "endpointSelector: []\n  ingress: [{}]"),
        "spec.endpointSelector",
        "must be a mapping",
    ),
    (
        CNP.replace("endpointSelector: {}", "endpointSelector: {matchLabels: []}\n  ingress: [{}]"),
        "spec.endpointSelector.matchLabels",
        "must be a mapping",
    ),
    (
        CNP.replace("endpointSelector: {}", "endpointSelector: {foo: {}}\n  ingress: [{}]"),
        "spec.endpointSelector.foo",
        "unknown field",
    ),
    (cnp("egress: 7"), "spec.egress", "must be a list"),
    (cnp("egress: [[]]"), "spec.egress[0]", "must be a mapping"),
    (cnp("egress: [{fromEndpoints: [{}]}]"), "spec.egress[0].fromEndpoints", "unknown field"),
    (cnp("ingress: [{fromCIDRs: []}]"), "spec.ingress[0].fromCIDRs", "unknown field; is fromCIDR meant?"),
    (cnp("egressDeny: [{toFQDNs: [{matchName: a}]}]"), "spec.egressDeny[0].toFQDNs", "unknown field"),
    (cnp("ingressDeny: [{authentication: {mode: required}}]"), "spec.ingressDeny[0].authentication", "unknown field"),
    (cnp("egressDeny: [{authentication: {}}]"), "spec.egressDeny[0].authentication", "unknown field"),
    (cnp("ingress: [{}]\nenableDefaultDeny: true"), "spec.enableDefaultDeny", "must be a mapping"),
    (cnp("ingress: [{}]\nenableDefaultDeny: {both: true}"), "spec.enableDefaultDeny.both", "unknown field"),
    (cnp("ingress: [{}]\nlabels: {}"), "spec.labels", "must be a list"),
    (cnp("ingress: [{}]\nlog: {foo: 1}"), "spec.log.foo", "unknown field"),
    (cnp("ingress: [{}]\nlog: 7"), "spec.log", "must be a mapping"),
    (peer("toEndpoints: {}"), "spec.egress[0].toEndpoints", "must be a list"),
    (peer("toEndpoints: [7]"), "spec.egress[0].toEndpoints[0]", "must be a mapping"),
    (peer("toEndpoints: [{matchExpressions: {}}]"), "spec.egress[0].toEndpoints[0].matchExpressions", "must be a list"),
    (
        peer("toEndpoints: [{matchExpressions: [7]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0]",
        "must be a mapping",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{operator: Exists}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].key",
        "is required",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: exists}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].operator",
        "must be one of In, NotIn, Exists, DoesNotExist",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: NotIn, values: []}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].values",
        "the operator NotIn needs values",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: In, values: b}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].values",
        "must be a list",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: In, values: [1]}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].values[0]",
        "must be a string",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: '', operator: Exists}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].key",
        "'' is no label key",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: DoesNotExist, values: [b]}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].values",
        "the operator DoesNotExist takes no values",
    ),
    (
        peer("toEndpoints: [{matchExpressions: [{key: a, operator: Exists, foo: 1}]}]"),
        "spec.egress[0].toEndpoints[0].matchExpressions[0].foo",
        "unknown field",
    ),
    (
        peer("toEndpoints: [{matchLabels: {'': b}}]"),
        "spec.egress[0].toEndpoints[0].matchLabels[]",
        "'' is no label key",
    ),
    (
        peer("toEndpoints: [{matchLabels: {a: %s}}]" % ("b" * 64)),
        "spec.egress[0].toEndpoints[0].matchLabels.a",
        "is no label value",
    ),
    (peer("toEndpoints: [{matchLabels: {a: -b}}]"), "spec.egress[0].toEndpoints[0].matchLabels.a", "is no label value"),
    (
        peer("toEndpoints: [{matchLabels: {'k8s:': b}}]"),
        "spec.egress[0].toEndpoints[0].matchLabels[k8s:]",
        "'' is no label key",
    ),
    (
        peer("toEndpoints: [{matchLabels: {%s: b}}]" % ("a" * 64)),
        "spec.egress[0].toEndpoints[0].matchLabels." + "a" * 64,
        "no label key",
    ),
    (peer("toEntities: [3]"), "spec.egress[0].toEntities[0]", "must be a string"),
    (peer("toEntities: ['']"), "spec.egress[0].toEntities[0]", "must be one of"),
    (peer("toEntities: [cluster, nobody]"), "spec.egress[0].toEntities[1]", "must be one of"),
    (peer("toCIDR: 10.0.0.0/8"), "spec.egress[0].toCIDR", "must be a list"),
    (peer("toCIDR: [7]"), "spec.egress[0].toCIDR[0]", "must be a string"),
    (peer("toCIDR: [10.0.0.0/-1]"), "spec.egress[0].toCIDR[0]", "is no CIDR"),
    (peer("toCIDR: [10.0.0/8]"), "spec.egress[0].toCIDR[0]", "is no CIDR"),
    (peer("toCIDR: ['2001:db8::/129']"), "spec.egress[0].toCIDR[0]", "is no CIDR"),
    (peer("toCIDR: [nowhere]"), "spec.egress[0].toCIDR[0]", "is no CIDR"),
    (peer("toCIDRSet: [7]"), "spec.egress[0].toCIDRSet[0]", "must be a mapping"),
    (peer("toCIDRSet: [{cidr: 10.0.0.0/8, foo: 1}]"), "spec.egress[0].toCIDRSet[0].foo", "unknown field"),
    (
        peer("toCIDRSet: [{cidr: 10.0.0.0/8, except: 10.1.0.0/16}]"),
        "spec.egress[0].toCIDRSet[0].except",
        "must be a list",
    ),
    (
        peer("toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0]}]"),
        "spec.egress[0].toCIDRSet[0].except[0]",
        "is no CIDR",
    ),
    (
        peer("toCIDRSet: [{cidr: 10.0.0.0/8, except: ['2001:db8::/32']}]"),
        "spec.egress[0].toCIDRSet[0].except[0]",
        "lies outside of 10.0.0.0/8",
    ),
    (peer("toCIDRSet: [{cidr: 7}]"), "spec.egress[0].toCIDRSet[0].cidr", "must be a string"),
    (
        peer("toCIDR: [10.0.0.0/8], toEntities: [world]"),
        "spec.egress[0].toEntities",
        "can't be combined with toCIDR in one rule",
    ),
    (
        peer("toCIDR: [10.0.0.0/8], toCIDRSet: [{cidr: 10.0.0.0/8}]"),
        "spec.egress[0].toCIDRSet",
        "can't be combined with toCIDR in one rule",
    ),
    (
        peer("toNodes: [{}], toEndpoints: [{}]"),
        "spec.egress[0].toNodes",
        "can't be combined with toEndpoints in one rule",
    ),
    (peer("toFQDNs: [{}]"), "spec.egress[0].toFQDNs[0]", "needs exactly one of matchName and matchPattern"),
    (peer("toFQDNs: [{matchName: 'a b'}]"), "spec.egress[0].toFQDNs[0].matchName", "is no DNS name"),
    (peer("toFQDNs: [{matchPattern: '('}]"), "spec.egress[0].toFQDNs[0].matchPattern", "is no pattern of DNS names"),
    (
        peer("toFQDNs: [{matchName: a}], toCIDR: [10.0.0.0/8]"),
        "spec.egress[0].toFQDNs",
        "can't be combined with toCIDR in one rule",
    ),
    (peer("toServices: [{k8sService: {foo: 1}}]"), "spec.egress[0].toServices[0].k8sService.foo", "unknown field"),
    (
        peer("toServices: [{k8sService: {serviceName: s}, k8sServiceSelector: {selector: {}}}]"),
        "spec.egress[0].toServices[0]",
        "needs exactly one of k8sService and k8sServiceSelector",
    ),
    (peer("toGroups: [{gcp: {}}]"), "spec.egress[0].toGroups[0].gcp", "unknown field"),
    (peer("authentication: {}"), "spec.egress[0].authentication.mode", "is required"),
    (peer("authentication: required"), "spec.egress[0].authentication", "must be a mapping"),
    (ports("{port: null}"), "spec.ingress[0].toPorts[0].ports[0].port", "is required"),
    (ports("{port: 80.5}"), "spec.ingress[0].toPorts[0].ports[0].port", "is neither a number nor a port name"),
    (ports("{port: ' 80'}"), "spec.ingress[0].toPorts[0].ports[0].port", "is neither a number nor a port name"),
    (ports("{port: '+80'}"), "spec.ingress[0].toPorts[0].ports[0].port", "is neither a number nor a port name"),
    (ports("{port: '80', protocol: 6}"), "spec.ingress[0].toPorts[0].ports[0].protocol", "must be a string"),
    (
        ports("{port: '80', protocol: HTTP}"),
        "spec.ingress[0].toPorts[0].ports[0].protocol",
        "must be one of ANY, TCP, UDP, SCTP, VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH",
    ),
    (ports("{port: '80', foo: 1}"), "spec.ingress[0].toPorts[0].ports[0].foo", "unknown field"),
    (ports("{port: '80', endPort: -1}"), "spec.ingress[0].toPorts[0].ports[0].endPort", "must be 0 to 65535"),
    (ports("{port: '80', endPort: 81.5}"), "spec.ingress[0].toPorts[0].ports[0].endPort", "must be a whole number"),
    (ports("{port: a--b}"), "spec.ingress[0].toPorts[0].ports[0].port", "is neither a number nor a port name"),
    (ports("{port: -a}"), "spec.ingress[0].toPorts[0].ports[0].port", "is neither a number nor a port name"),
    (ports("{port: a_b}"), "spec.ingress[0].toPorts[0].ports[0].port", "is neither a number nor a port name"),
    (ports("7"), "spec.ingress[0].toPorts[0].ports[0]", "must be a mapping"),
    (cnp("ingress: [{toPorts: {}}]"), "spec.ingress[0].toPorts", "must be a list"),
    (cnp("ingress: [{toPorts: [7]}]"), "spec.ingress[0].toPorts[0]", "must be a mapping"),
    (cnp("ingress: [{toPorts: [{ports: {}}]}]"), "spec.ingress[0].toPorts[0].ports", "must be a list"),
    (cnp("ingress: [{icmps: {}}]"), "spec.ingress[0].icmps", "must be a list"),
    (cnp("ingress: [{icmps: [7]}]"), "spec.ingress[0].icmps[0]", "must be a mapping"),
    (cnp("ingress: [{icmps: [{fields: {}}]}]"), "spec.ingress[0].icmps[0].fields", "must be a list"),
    (cnp("ingress: [{icmps: [{fields: [7]}]}]"), "spec.ingress[0].icmps[0].fields[0]", "must be a mapping"),
    (
        cnp("ingress: [{icmps: [{fields: [{type: -1}]}]}]"),
        "spec.ingress[0].icmps[0].fields[0].type",
        "must be 0 to 255",
    ),
    (
        cnp("ingress: [{icmps: [{fields: [{type: PacketTooBig}]}]}]"),
        "spec.ingress[0].icmps[0].fields[0].type",
        "is no ICMP type of IPv4",
    ),
    (
        cnp("ingress: [{icmps: [{fields: [{type: 8, code: 0}]}]}]"),
        "spec.ingress[0].icmps[0].fields[0].code",
        "unknown field",
    ),
    (
        cnp("ingress: [{icmps: [{fields: [" + ", ".join(f"{{type: {i}}}" for i in range(1, 43)) + "]}]}]"),
        "spec.ingress[0].icmps[0].fields",
        "has 42 types; at most 40 are allowed",
    ),
    (
        cnp("ingress: [{icmps: [{fields: [{type: 8, family: 4}]}]}]"),
        "spec.ingress[0].icmps[0].fields[0].family",
        "must be a string",
    ),
    (http("rules: []"), "spec.egress[0].toPorts[0].rules", "must be a mapping"),
    (
        http("rules: {dns: [{matchName: a, matchPattern: b}]}"),
        "spec.egress[0].toPorts[0].rules.dns[0]",
        "needs exactly one of matchName and matchPattern",
    ),
    (http("rules: {http: [{path: 7}]}"), "spec.egress[0].toPorts[0].rules.http[0].path", "must be a string"),
    (http("rules: {http: [{headers: a}]}"), "spec.egress[0].toPorts[0].rules.http[0].headers", "must be a list"),
    (
        http("rules: {http: [{method: '['}]}"),
        "spec.egress[0].toPorts[0].rules.http[0].method",
        "is no regular expression",
    ),
    (
        http("rules: {http: [], dns: []}"),
        "spec.egress[0].toPorts[0].rules.dns",
        "can't stand beside http on the same ports",
    ),
    (http("serverNames: a"), "spec.egress[0].toPorts[0].serverNames", "must be a list"),
    (http("serverNames: ['']"), "spec.egress[0].toPorts[0].serverNames[0]", "must not be empty"),
    (http("originatingTLS: {secret: {}}"), "spec.egress[0].toPorts[0].originatingTLS.secret.name", "is required"),
    (http("listener: {envoyConfig: {name: c}}"), "spec.egress[0].toPorts[0].listener.name", "is required"),
    (np("policyTypes: Ingress"), "spec.policyTypes", "must be a list"),
    (np("policyTypes: [Ingress, Both]"), "spec.policyTypes[1]", "must be one of Ingress, Egress"),
    (np("ingress: {}"), "spec.ingress", "must be a list"),
    (np("egress: [7]"), "spec.egress[0]", "must be a mapping"),
    (np("ingress: [{from: {}}]"), "spec.ingress[0].from", "must be a list"),
    (np("ingress: [{from: [{podSelector: []}]}]"), "spec.ingress[0].from[0].podSelector", "must be a mapping"),
    (
        np("ingress: [{from: [{namespaceSelector: {matchLabels: {a: 1}}}]}]"),
        "spec.ingress[0].from[0].namespaceSelector.matchLabels.a",
        "must be a string",
    ),
    (np("ingress: [{from: [{podSelektor: {}}]}]"), "spec.ingress[0].from[0].podSelektor", "unknown field"),
    (np("ingress: [{ports: [{port: 65536}]}]"), "spec.ingress[0].ports[0].port", "must be 1 to 65535"),
    (np("ingress: [{ports: [{port: true}]}]"), "spec.ingress[0].ports[0].port", "must be a whole number"),
    (np("ingress: [{ports: [{port: '80'}]}]"), "spec.ingress[0].ports[0].port", "is no port name"),
    (
        np("ingress: [{ports: [{port: http, protocol: ICMP}]}]"),
        "spec.ingress[0].ports[0].protocol",
        "must be one of TCP, UDP, SCTP",
    ),
    (np("ingress: [{ports: [{port: 80, endPort: 65536}]}]"), "spec.ingress[0].ports[0].endPort", "must be 1 to 65535"),
    (np("ingress: [{ports: [{port: 80, name: x}]}]"), "spec.ingress[0].ports[0].name", "unknown field"),
    (np("egress: [{to: [{ipBlock: {cidr: 10.0.0.1/33}}]}]"), "spec.egress[0].to[0].ipBlock.cidr", "is no CIDR"),
    (np("egress: [{to: [{ipBlock: {cidr: 7}}]}]"), "spec.egress[0].to[0].ipBlock.cidr", "must be a string"),
    (
        np("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: {}}}]}]"),
        "spec.egress[0].to[0].ipBlock.except",
        "must be a list",
    ),
    (
        np("egress: [{to: [{podSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}}]}]"),
        "spec.egress[0].to[0].podSelector.matchExpressions[0].operator",
        "must be one of In, NotIn, Exists, DoesNotExist",
    ),
    (
        np("egress: [{to: [{podSelector: {matchExpressions: [{key: a, operator: In, values: [b c]}]}}]}]"),
        "spec.egress[0].to[0].podSelector.matchExpressions[0].values[0]",
        "is no label value",
    ),
    (NP + "  podSelector: 7", "spec.podSelector", "must be a mapping"),
    (NP + "  podSelector: {}\n  endpointSelector: {}", "spec.endpointSelector", "unknown field"),
    (
        ccnp("nodeSelector: {}\ningress: [{}]"),
        "spec.nodeSelector",
        "stands beside endpointSelector; a rule is for endpoints or for nodes",
    ),
    (
        ccnp("nodeSelector: 7\ningress: [{}]"),
        "spec.nodeSelector",
        "stands beside endpointSelector; a rule is for endpoints or for nodes",
    ),
    (ccnp("ingress: [{fromNodes: 7}]"), "spec.ingress[0].fromNodes", "must be a list"),
]


@pytest.mark.parametrize(("text", "path", "reason"), MORE)
def test_a_mistake_is_refused_with_its_field_and_reason(text: str, path: str, reason: str) -> None:
    assert_refused(text, path, reason)


def test_no_mistake_is_tried_twice() -> None:
    texts = [text for text, _, _ in (*BAD, *MORE)]
    assert len(set(texts)) == len(texts) >= 230


SOUND = [
    headed("\nspecs: [{endpointSelector: {}, ingress: [{}]}, {endpointSelector: {matchLabels: {a: b}}, egress: [{}]}]"),
    CNP.replace("namespace: x", "namespace: ''") + "  ingress: [{}]",
    cnp("ingress: [{}]\ndescription: what it is for"),
    cnp("ingress: [{}]\nenableDefaultDeny: {ingress: false, egress: true}"),
    cnp("ingress: [{}]\nlabels: [{key: a, value: b, source: k8s}]"),
    cnp("ingress: []\negress: [{}]"),
    cnp("ingressDeny: [{fromEntities: [world]}]"),
    peer("toEndpoints: [{matchLabels: {'any:a': b, 'k8s:c': d, 'reserved:host': ''}}]"),
    peer(
        "toEndpoints: [{matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: d, operator: DoesNotExist}]}]"
    ),
    peer("toEndpoints: [{matchLabels: {a: ''}}]"),
    peer("toEntities: [all, cluster, kube-apiserver]"),
    peer("toEndpoints: []"),
    ports("{port: '0'}"),
    ports("{port: '80', endPort: 0}"),
    ports("{port: '80', endPort: 80, protocol: tcp}"),
    ports("{port: HTTP, protocol: ANY}"),
    ports("{port: '1e3'}"),
    ports("{protocol: VRRP}"),
    ports("{port: '0', protocol: ESP}"),
    cnp("ingress: [{toPorts: []}]"),
    cnp("ingress: [{icmps: [{fields: [{type: '8'}, {type: EchoRequest, family: IPv6}]}]}]"),
    np("ingress: []"),
    np("policyTypes: [Egress]\ningress: [{}]"),
    np("ingress: [{from: [{podSelector: {}, namespaceSelector: {}}], ports: [{port: http}, {port: 1, endPort: 9}]}]"),
    np("egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"),
    ccnp("ingress: [{fromEndpoints: [{}]}]"),
]


@pytest.mark.parametrize("text", SOUND)
def test_what_is_sound_is_accepted(text: str) -> None:
    (parsed,) = parse_policies(text, source="web.yaml")
    assert parsed.unenforced == ()
