"""Scenarios of the policy language: what is applied, and who then reaches whom.

Who talks: ``client`` and ``worker`` in namespace shop, ``other`` in namespace other, the ``host``
of the web server's node, and the ``world``. All but the world try the server ``web`` in shop (its
ports 80 and 81 are named http and admin); the client tries ``other`` and the ``world``. A scenario
names what differs from "everything passes".
"""

from dataclasses import dataclass, field
from typing import Final

EVERYTHING: Final = "80 81 53 ping"
NOTHING: Final = ""
SERVER_SIDE: Final = ("client", "worker", "other", "host")
CLIENT_SIDE: Final = ("other", "world")


@dataclass(frozen=True)
class Scenario:
    """``web`` tells what each peer reaches there, ``out`` what the client reaches of each peer."""

    name: str
    text: str
    web: dict[str, str] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)


def policy(
    section: str, subject: str = "app: web", *, name: str = "p", namespace: str = "shop", extra: str = ""
) -> str:
    """Return a CiliumNetworkPolicy with one section of its spec in flow style."""
    return f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  endpointSelector: {{matchLabels: {{{subject}}}}}
  {section}
  {extra}
---
"""


def clusterwide(section: str, selector: str = "{}", *, name: str = "c") -> str:
    return f"""
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {{name: {name}}}
spec:
  endpointSelector: {selector}
  {section}
---
"""


def web_only(**peers: str) -> dict[str, str]:
    """Return that the server is reached as given, and otherwise only by its own host."""
    return {peer: peers.get(peer, NOTHING) for peer in ("client", "worker", "other")}


def out_only(**peers: str) -> dict[str, str]:
    return {peer: peers.get(peer, NOTHING) for peer in CLIENT_SIDE}


FROM_CLIENT: Final = "fromEndpoints: [{matchLabels: {app: client}}]"
TO_WEB: Final = "toEndpoints: [{matchLabels: {app: web}}]"
CLIENT: Final = "app: client"


def port(number: str, protocol: str = "TCP", **more: object) -> str:
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    return f"toPorts: [{{ports: [{{port: '{number}', protocol: {protocol}{extra}}}]}}]"


def ingress(rule: str, **more: str) -> str:
    return policy(f"ingress: [{{{rule}}}]", **more)


def egress(rule: str, **more: str) -> str:
    return policy(f"egress: [{{{rule}}}]", **{"subject": CLIENT, **more})


SERVER_SCENARIOS: Final = (
    Scenario("no policy", ""),
    Scenario("an empty rule allows every peer of the namespace and none", ingress(""), web_only()),
    Scenario(
        "a selector that selects the namespace",
        ingress("fromEndpoints: [{}]"),
        web_only(client=EVERYTHING, worker=EVERYTHING),
    ),
    Scenario("one label", ingress(FROM_CLIENT), web_only(client=EVERYTHING)),
    Scenario(
        "two labels of one peer",
        ingress("fromEndpoints: [{matchLabels: {app: client, role: front}}]"),
        web_only(client=EVERYTHING),
    ),
    Scenario(
        "a label that no peer has", ingress("fromEndpoints: [{matchLabels: {app: client, role: back}}]"), web_only()
    ),
    Scenario(
        "two peers of one rule",
        ingress("fromEndpoints: [{matchLabels: {app: client}}, {matchLabels: {app: worker}}]"),
        web_only(client=EVERYTHING, worker=EVERYTHING),
    ),
    Scenario(
        "In",
        ingress("fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [worker, x]}]}]"),
        web_only(worker=EVERYTHING),
    ),
    Scenario(
        "NotIn",
        ingress("fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [worker]}]}]"),
        web_only(client=EVERYTHING),
    ),
    Scenario(
        "Exists",
        ingress("fromEndpoints: [{matchExpressions: [{key: role, operator: Exists}]}]"),
        web_only(client=EVERYTHING),
    ),
    Scenario(
        "DoesNotExist",
        ingress("fromEndpoints: [{matchExpressions: [{key: role, operator: DoesNotExist}]}]"),
        web_only(worker=EVERYTHING),
    ),
    Scenario(
        "another namespace by its name",
        ingress("fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}]"),
        web_only(other=EVERYTHING),
    ),
    Scenario(
        "another namespace's pod by its label",
        ingress("fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': other, app: client}}]"),
        web_only(other=EVERYTHING),
    ),
    Scenario(
        "another namespace by the namespace's label",
        ingress("fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': red}}]"),
        web_only(other=EVERYTHING),
    ),
    Scenario(
        "every namespace",
        ingress("fromEndpoints: [{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: Exists}]}]"),
        web_only(client=EVERYTHING, worker=EVERYTHING, other=EVERYTHING),
    ),
    Scenario("a port of one peer", ingress(f"{FROM_CLIENT}, {port('80')}"), web_only(client="80")),
    Scenario("a port of anybody", ingress(port("81")), web_only(client="81", worker="81", other="81")),
    Scenario("a UDP port", ingress(port("53", "UDP")), web_only(client="53", worker="53", other="53")),
    Scenario("a port of the wrong protocol", ingress(port("53", "TCP")), web_only()),
    Scenario("a port of any protocol", ingress(port("53", "ANY")), web_only(client="53", worker="53", other="53")),
    Scenario(
        "a range", ingress(port("80", "TCP", endPort=81)), web_only(client="80 81", worker="80 81", other="80 81")
    ),
    Scenario(
        "a range with both ends beside",
        ingress(port("70", "TCP", endPort=80)),
        web_only(client="80", worker="80", other="80"),
    ),
    Scenario("every port of a protocol", ingress(port("0", "UDP")), web_only(client="53", worker="53", other="53")),
    Scenario("a named port", ingress(port("http")), web_only(client="80", worker="80", other="80")),
    Scenario("another named port", ingress(f"{FROM_CLIENT}, {port('admin')}"), web_only(client="81")),
    Scenario("a name that the server doesn't give", ingress(port("metrics")), web_only()),
    Scenario(
        "echo requests",
        ingress("icmps: [{fields: [{type: 8, family: IPv4}]}]"),
        web_only(client="ping", worker="ping", other="ping"),
    ),
    Scenario(
        "echo requests by name, of one peer",
        ingress(f"{FROM_CLIENT}, icmps: [{{fields: [{{type: EchoRequest, family: IPv4}}]}}]"),
        web_only(client="ping"),
    ),
    Scenario("ICMPv6 only", ingress("icmps: [{fields: [{type: 128, family: IPv6}]}]"), web_only()),
    Scenario(
        "two rules",
        policy(f"ingress: [{{{FROM_CLIENT}, {port('80')}}}, {{{port('81')}}}]"),
        web_only(client="80 81", worker="81", other="81"),
    ),
    Scenario(
        "two policies",
        ingress(f"{FROM_CLIENT}, {port('80')}") + ingress(port("53", "UDP"), name="q"),
        web_only(client="80 53", worker="53", other="53"),
    ),
    Scenario(
        "specs",
        policy(f"ingress: [{{{FROM_CLIENT}}}]").replace("spec:\n  endpointSelector", "specs:\n- endpointSelector"),
        web_only(client=EVERYTHING),
    ),
    Scenario(
        "the whole cluster",
        ingress("fromEntities: [cluster]"),
        web_only(client=EVERYTHING, worker=EVERYTHING, other=EVERYTHING),
    ),
    Scenario("all entities", ingress("fromEntities: [all]")),
    Scenario("the world only", ingress("fromEntities: [world]"), web_only()),
    Scenario("the host, which always may", ingress("fromEntities: [host]"), web_only()),
    Scenario(
        "deny one peer, allow the rest",
        ingress("fromEntities: [cluster]") + policy(f"ingressDeny: [{{{FROM_CLIENT}}}]", name="d"),
        {"client": NOTHING},
    ),
    Scenario(
        "deny beats a longer allow",
        ingress(f"{FROM_CLIENT}, {port('80')}") + policy(f"ingressDeny: [{{{FROM_CLIENT}}}]", name="d"),
        web_only(),
    ),
    Scenario(
        "deny one port",
        ingress("fromEntities: [cluster]") + policy(f"ingressDeny: [{{{port('81')}}}]", name="d"),
        {"client": "80 53 ping", "worker": "80 53 ping", "other": "80 53 ping", "host": "80 53 ping"},
    ),
    Scenario(
        "deny a range in an allowed one",
        ingress(port("1", "TCP", endPort=100))
        + policy(f"ingressDeny: [{{{port('81', 'TCP', endPort=90)}}}]", name="d"),
        {**web_only(client="80", worker="80", other="80"), "host": "80 53 ping"},
    ),
    Scenario("deny alone closes", policy(f"ingressDeny: [{{{FROM_CLIENT}}}]"), web_only()),
    Scenario(
        "deny alone, without closing",
        policy(f"ingressDeny: [{{{FROM_CLIENT}}}]", extra="enableDefaultDeny: {ingress: false}"),
        {"client": NOTHING},
    ),
    Scenario(
        "an allow that closes nothing",
        policy(f"ingress: [{{{FROM_CLIENT}}}]", extra="enableDefaultDeny: {ingress: false}"),
    ),
    Scenario(
        "one policy closes, the other doesn't",
        policy(f"ingress: [{{{FROM_CLIENT}}}]", extra="enableDefaultDeny: {ingress: false}")
        + ingress(port("80"), name="q"),
        web_only(client=EVERYTHING, worker="80", other="80"),
    ),
    Scenario(
        "deny the host",
        policy("ingressDeny: [{fromEntities: [host]}]", extra="enableDefaultDeny: {ingress: false}"),
        {"host": NOTHING},
    ),
    Scenario("another subject", ingress(FROM_CLIENT, subject="app: nobody")),
    Scenario("another namespace's policy", ingress(FROM_CLIENT, namespace="other")),
    Scenario(
        "clusterwide",
        clusterwide("ingress: [{fromEndpoints: [{matchLabels: {app: worker}}]}]", "{matchLabels: {app: web}}"),
        web_only(worker=EVERYTHING),
    ),
    Scenario(
        "clusterwide peers are of every namespace",
        clusterwide("ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]", "{matchLabels: {app: web}}"),
        web_only(client=EVERYTHING, other=EVERYTHING),
    ),
    Scenario(
        "clusterwide deny over a namespace's allow",
        ingress("fromEntities: [all]")
        + clusterwide("ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}]}]", "{matchLabels: {app: web}}"),
        {"client": NOTHING, "other": NOTHING},
    ),
)
CLIENT_SCENARIOS: Final = (
    Scenario("egress to one server", egress(TO_WEB), {}, out_only()),
    Scenario("egress to one port of it", egress(f"{TO_WEB}, {port('80')}"), {"client": "80"}, out_only()),
    Scenario("egress to a named port", egress(f"{TO_WEB}, {port('admin')}"), {"client": "81"}, out_only()),
    Scenario("egress to nobody", policy("egress: [{}]", CLIENT), {"client": NOTHING}, out_only()),
    Scenario("egress to the world", egress("toEntities: [world]"), {"client": NOTHING}, out_only(world=EVERYTHING)),
    Scenario("egress to the cluster", egress("toEntities: [cluster]"), {}, out_only(other=EVERYTHING)),
    Scenario(
        "egress to another namespace",
        egress("toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}]"),
        {"client": NOTHING},
        out_only(other=EVERYTHING),
    ),
    Scenario(
        "egress to a prefix", egress("toCIDR: [198.51.100.0/24]"), {"client": NOTHING}, out_only(world=EVERYTHING)
    ),
    Scenario(
        "egress to a prefix and port",
        egress(f"toCIDR: [198.51.100.0/24], {port('80')}"),
        {"client": NOTHING},
        out_only(world="80"),
    ),
    Scenario(
        "egress to a prefix with a hole",
        egress("toCIDRSet: [{cidr: 198.51.0.0/16, except: [198.51.100.0/24]}]"),
        {"client": NOTHING},
        out_only(),
    ),
    Scenario("a prefix of pods selects no pods", egress("toCIDR: [10.0.0.0/8]"), {"client": NOTHING}, out_only()),
    Scenario(
        "deny the world, allow all",
        egress("toEntities: [all]") + policy("egressDeny: [{toEntities: [world]}]", CLIENT, name="d"),
        {},
        {"world": NOTHING},
    ),
    Scenario(
        "deny a prefix, allow the world",
        egress("toEntities: [all]") + policy("egressDeny: [{toCIDR: [198.51.100.0/25]}]", CLIENT, name="d"),
        {},
        {"world": NOTHING},
    ),
    Scenario(
        "deny one port of egress",
        policy(f"egressDeny: [{{{port('81')}}}]", CLIENT, extra="enableDefaultDeny: {egress: false}"),
        {"client": "80 53 ping"},
        {"other": "80 53 ping", "world": "80 53 ping"},
    ),
    Scenario(
        "egress and ingress must both allow",
        egress(f"{TO_WEB}, {port('80', 'TCP', endPort=81)}") + ingress(f"{FROM_CLIENT}, {port('81')}", name="i"),
        web_only(client="81"),
        out_only(),
    ),
    Scenario(
        "pings out",
        egress("icmps: [{fields: [{type: 8, family: IPv4}]}]"),
        {"client": "ping"},
        out_only(other="ping", world="ping"),
    ),
    Scenario(
        "a denied range of UDP out",
        egress("toEntities: [all]") + policy(f"egressDeny: [{{{port('50', 'UDP', endPort=60)}}}]", CLIENT, name="d"),
        {"client": "80 81 ping"},
        {"other": "80 81 ping", "world": "80 81 ping"},
    ),
)
SCENARIOS: Final = (*SERVER_SCENARIOS, *CLIENT_SCENARIOS)
