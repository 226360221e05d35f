"""Random clusters: policies as users write them, pods with labels and named ports, addresses
outside.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from cilia.policy.engine.options import Mode
from cilia.policy.language.enforcement import AUDIT
from cilia.policy.language.parse import SHADOW
from cilia.policy.simulate.description import DescribedPod, DescribedPort, Description

NAMESPACES: Final = {"red": {"team": "a"}, "blue": {"team": "b"}, "grey": {}}
APPS, TIERS = ("web", "db", "job"), ("front", "back")
PORTS: Final = (1, 22, 53, 79, 80, 81, 443, 1023, 1024, 5432, 8080, 65535)
PREFIXES: Final = (
    "198.51.100.0/24",
    "198.51.100.128/25",
    "198.51.100.200/32",
    "203.0.113.0/24",
    "203.0.112.0/20",
    "10.1.0.0/24",
    "10.0.0.0/8",
    "0.0.0.0/0",
)
OUTSIDERS: Final = ("198.51.100.7", "198.51.100.130", "198.51.100.200", "203.0.113.9", "203.0.115.1", "192.0.2.77")
LOCAL_PODS: Final = 8
REMOTE_PODS: Final = 4
POLICIES: Final = 12

Json = dict[str, Any]


def draw(pick: Random) -> Description:
    """Return a cluster."""
    pods = [_pod(pick, number) for number in range(LOCAL_PODS + REMOTE_PODS)]
    kinds = pick.choices((_cilium, _clusterwide, _kubernetes), (6, 2, 3), k=pick.randint(1, POLICIES))
    policies = [kind(pick, f"p{number}") for number, kind in enumerate(kinds)]
    audited = pick.choice((0, 0, 0, 0.5))
    for policy in policies:
        annotations = {AUDIT: pick.random() < audited, SHADOW: pick.random() < 0.1}
        policy["metadata"]["annotations"] = {name: "true" for name, wanted in annotations.items() if wanted}
    return Description(
        namespaces=NAMESPACES,
        pods=tuple(pods),
        addresses=OUTSIDERS,
        entities=("host",),
        policies=tuple(policies),
        mode=pick.choices((Mode.DEFAULT, Mode.ALWAYS, Mode.NEVER), (12, 2, 1))[0],
    )


def _pod(pick: Random, number: int) -> DescribedPod:
    ports = [
        DescribedPort(name=name, port=pick.choice(PORTS), protocol=pick.choice(("TCP", "UDP")))
        for name in ("http", "sql")
        if pick.random() < 0.6
    ]
    return DescribedPod(
        name=f"pod{number}",
        namespace=pick.choice(tuple(NAMESPACES)),
        labels=_labels(pick, 0.9),
        addresses=(f"10.{1 if number < LOCAL_PODS else 2}.0.{10 + number}",),
        ports=tuple(ports),
    )


def _labels(pick: Random, share: float) -> dict[str, str]:
    found = {}
    if pick.random() < share:
        found["app"] = pick.choice(APPS)
    if pick.random() < share / 2:
        found["tier"] = pick.choice(TIERS)
    return found


def _selector(pick: Random) -> Json:
    found: Json = {}
    labels = _labels(pick, 0.6)
    if labels:
        found["matchLabels"] = labels
    if pick.random() < 0.2:
        operator = pick.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        expression: Json = {"key": pick.choice(("app", "tier")), "operator": operator}
        if operator.endswith("In"):
            expression["values"] = pick.sample(APPS + TIERS, 2)
        found["matchExpressions"] = [expression]
    return found


def _meta(pick: Random, name: str, namespaced: bool = True) -> Json:
    metadata: Json = {"name": name}
    if namespaced:
        metadata["namespace"] = pick.choice(tuple(NAMESPACES))
    return metadata


def _cilium(pick: Random, name: str) -> Json:
    return _object("CiliumNetworkPolicy", _meta(pick, name), _cilium_spec(pick))


def _clusterwide(pick: Random, name: str) -> Json:
    return _object("CiliumClusterwideNetworkPolicy", _meta(pick, name, namespaced=False), _cilium_spec(pick))


def _object(kind: str, metadata: Json, spec: Json) -> Json:
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


def _cilium_spec(pick: Random) -> Json:
    spec: Json = {"endpointSelector": _selector(pick)}
    sections = [name for name in ("ingress", "egress", "ingressDeny", "egressDeny") if pick.random() < 0.4]
    for section in sections or ["ingress"]:
        spec[section] = [_cilium_rule(pick, section) for _ in range(pick.randint(1, 3))]
    if pick.random() < 0.25:
        spec["enableDefaultDeny"] = {"ingress": pick.random() < 0.5, "egress": pick.random() < 0.5}
    return spec


def _cilium_rule(pick: Random, section: str) -> Json:
    field = "to" if section.startswith("egress") else "from"
    rule: Json = {}
    kind = pick.choices(("Endpoints", "CIDR", "CIDRSet", "Entities", ""), (6, 2, 2, 2, 2))[0]
    makers: dict[str, Callable[[Random], list[Any]]] = {
        "Endpoints": _endpoints,
        "CIDR": lambda pick: pick.sample(PREFIXES, pick.randint(1, 2)),
        "CIDRSet": _cidr_set,
        "Entities": lambda pick: pick.sample(("world", "host", "remote-node", "cluster", "all"), pick.randint(1, 2)),
    }
    if kind:
        rule[field + kind] = makers[kind](pick)
    if pick.random() < 0.6:
        rule["toPorts"] = [{"ports": [_cilium_port(pick) for _ in range(pick.randint(1, 3))]}]
    elif pick.random() < 0.2:
        rule["icmps"] = [{"fields": [{"family": "IPv4", "type": pick.choice((3, 8))}]}]
    return rule


def _endpoints(pick: Random) -> list[Any]:
    found = []
    for _ in range(pick.randint(1, 2)):
        selector = _selector(pick)
        if pick.random() < 0.4:
            labels = selector.setdefault("matchLabels", {})
            labels["k8s:io.kubernetes.pod.namespace"] = pick.choice(tuple(NAMESPACES))
        found.append(selector)
    return found


def _cidr_set(pick: Random) -> list[Any]:
    cidr, hole = pick.choice(
        (
            ("198.51.100.0/24", "198.51.100.128/25"),
            ("198.51.100.128/25", "198.51.100.200/32"),
            ("203.0.112.0/20", "203.0.113.0/24"),
            ("0.0.0.0/0", "198.51.100.0/24"),
        )
    )
    return [{"cidr": cidr, "except": [hole]}] if pick.random() < 0.6 else [{"cidr": cidr}]


def _cilium_port(pick: Random) -> Json:
    protocol = pick.choice(("TCP", "UDP", "ANY"))
    if pick.random() < 0.25:
        return {"port": pick.choice(("http", "sql")), "protocol": pick.choice(("TCP", "UDP"))}
    first, last = sorted(pick.choices(PORTS, k=2))
    if pick.random() < 0.3 and first != last:
        return {"port": str(first), "endPort": last, "protocol": protocol}
    return {"port": str(first if pick.random() < 0.95 else 0), "protocol": protocol}


def _kubernetes(pick: Random, name: str) -> Json:
    types = pick.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    spec: Json = {"podSelector": _selector(pick), "policyTypes": types}
    for section, field in (("ingress", "from"), ("egress", "to")):
        if section.title() in types:
            spec[section] = [_kubernetes_rule(pick, field) for _ in range(pick.randint(0, 2))]
    body = _object("NetworkPolicy", _meta(pick, name), spec)
    return {**body, "apiVersion": "networking.k8s.io/v1"}


def _kubernetes_rule(pick: Random, field: str) -> Json:
    rule: Json = {}
    if pick.random() < 0.8:
        rule[field] = [_kubernetes_peer(pick) for _ in range(pick.randint(1, 2))]
    if pick.random() < 0.6:
        rule["ports"] = [_kubernetes_port(pick) for _ in range(pick.randint(1, 2))]
    return rule


def _kubernetes_peer(pick: Random) -> Json:
    if pick.random() < 0.3:
        block = _cidr_set(pick)[0] if pick.random() < 0.5 else {"cidr": pick.choice(PREFIXES)}
        return {"ipBlock": block}
    peer: Json = {}
    if pick.random() < 0.4:
        labels = pick.choice(({"team": "a"}, {"team": "b"}, {}))
        peer["namespaceSelector"] = {"matchLabels": labels} if labels else {}
    if not peer or pick.random() < 0.6:
        peer["podSelector"] = _selector(pick)
    return peer


def _kubernetes_port(pick: Random) -> Json:
    protocol = pick.choice(("TCP", "UDP"))
    if pick.random() < 0.2:
        return {"port": pick.choice(("http", "sql")), "protocol": protocol}
    first, last = sorted(pick.choices(PORTS, k=2))
    found: Json = {"port": first, "protocol": protocol}
    return {**found, "endPort": last} if pick.random() < 0.3 else found
