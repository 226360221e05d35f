"""Explanations: what a flow lacks is named exactly, and the proposed policy lets it through and
nothing else in.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import yaml
from msgspec import convert

from cilia.contracts.explanations import Explained, PeerSelector, Side
from cilia.contracts.protocols import IpProtocol
from cilia.policy.explain.explanation import explain
from cilia.policy.explain.judgement import Judge
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import UnknownParty, find_party
from cilia.policy.simulate.cluster import DescribedCluster, build_cluster
from cilia.policy.simulate.description import Description

Json = Any
NAMESPACE = "k8s:io.kubernetes.pod.namespace"
PODS: Json = [
    {"namespace": "shop", "name": "db", "labels": {"app": "db", "tier": "back"}},
    {"namespace": "shop", "name": "web", "labels": {"app": "web", "role": "client"}},
    {"namespace": "shop", "name": "webb", "labels": {"app": "webb", "role": "client"}},
    {"namespace": "shop", "name": "bare", "labels": {"app": "web"}},
    {"namespace": "lab", "name": "web", "labels": {"app": "web", "role": "client"}},
    {"namespace": "attic", "name": "web", "labels": {"app": "web", "role": "client"}},
]
NODES: Json = [{"name": "near", "labels": {"zone": "a"}}, {"name": "away", "labels": {"zone": "b"}}]
SQL = [{"name": "sql", "port": 5432}]


@dataclass(frozen=True)
class Wish:
    """A field of a rule, and for the flow: the value that fits, and one that doesn't, with what is
    to be named.
    """

    field: Json
    fits: str
    misses: str
    what: str
    wanted: str
    found: str


def _client(**more: str) -> Json:
    return {"Endpoints": [{"matchLabels": {"app": "web", "role": "client", **more}}]}


PEERS = [
    Wish(_client(), "shop/web", "shop/webb", "label", "app=web", "app=webb"),
    Wish(_client(), "shop/web", "shop/bare", "label", "role=client", "no role"),
    Wish(_client(), "shop/web", "lab/web", "namespace", "namespace=shop", "namespace=lab"),
    Wish(_client(**{NAMESPACE: "lab"}), "lab/web", "attic/web", "namespace", "namespace=lab", "namespace=attic"),
    Wish({"CIDR": ["192.0.2.0/24"]}, "192.0.2.1", "198.51.100.7", "cidr", "192.0.2.0/24", "198.51.100.7"),
    Wish({"CIDR": ["192.0.2.0/24"]}, "192.0.2.1", "lab/web", "cidr", "192.0.2.0/24", "a workload of the cluster"),
    Wish(
        {"CIDRSet": [{"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}]},
        "192.0.2.1",
        "192.0.2.200",
        "except",
        "an address outside of 192.0.2.128/25",
        "192.0.2.200",
    ),
    Wish({"Nodes": [{"matchLabels": {"zone": "a"}}]}, "near", "away", "label", "node:zone=a", "node:zone=b"),
    Wish({"Entities": ["remote-node"]}, "remote-node", "ingress", "entity", "remote-node", "ingress"),
]


def _numbers(*ports: str) -> Json:
    split = [text.split("/") for text in ports]
    return {"toPorts": [{"ports": [{"port": port, "protocol": protocol} for port, protocol in split]}]}


def _range(first: str, last: int) -> Json:
    return {"toPorts": [{"ports": [{"port": first, "endPort": last, "protocol": "TCP"}]}]}


PORTS = [
    Wish(_numbers("5432/TCP"), "5432/TCP", "5433/TCP", "port", "5432/TCP", "5433/TCP"),
    Wish(_numbers("5432/TCP"), "5432/TCP", "5432/UDP", "protocol", "5432/TCP", "5432/UDP"),
    Wish(_numbers("80/TCP", "90/TCP"), "90/TCP", "88/TCP", "port", "90/TCP", "88/TCP"),
    Wish(_range("8000", 8100), "8080/TCP", "8101/TCP", "port", "8000-8100/TCP", "8101/TCP"),
    Wish({"icmps": [{"fields": [{"type": 8}]}]}, "8/ICMP", "13/ICMP", "port", "8/ICMP", "13/ICMP"),
]
ANY_PORT = Wish({}, "80/TCP", "", "", "", "")
ANY_PEER = Wish({"Entities": ["all"]}, "shop/web", "", "", "", "")


def _policy(name: str, selector: Json, **sections: Json) -> Json:
    spec = {"endpointSelector": {"matchLabels": selector}, **sections}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


FAR = {"fromEndpoints": [{"matchLabels": {"x": "1", "y": "2"}}], **_numbers("1/SCTP")}
FAR_OUT = {"toEndpoints": FAR["fromEndpoints"], "toPorts": FAR["toPorts"]}


def _world(direction: str, peer: Wish, port: Wish, selector: Json) -> DescribedCluster:
    prefix = "from" if direction == "ingress" else "to"
    rule = {prefix + kind: value for kind, value in peer.field.items()} | port.field
    policies = [
        _policy("isolate", {}, ingress=[{}], egress=[{}]),
        _policy("far", {"app": "db"}, ingress=[FAR], egress=[FAR_OUT]),
        _policy("near", selector, **{direction: [rule]}),
    ]
    return _build(policies)


def _build(policies: list[Json], pods: Json = PODS, **more: Json) -> DescribedCluster:
    return build_cluster(convert({"pods": pods, "nodes": NODES, "policies": policies, **more}, Description))


def _ask(world: DescribedCluster, direction: str, other: str, port: str) -> Side:
    flow = (
        _explain(world, other, "shop/db", port) if direction == "ingress" else _explain(world, "shop/db", other, port)
    )
    return flow.ingress if direction == "ingress" else flow.egress


def _explain(world: DescribedCluster, source: str, destination: str, port: str) -> Explained:
    number, protocol = port.split("/")
    packet = Packet(IpProtocol[protocol], int(number))
    client, server = (find_party(world.engine, PeerSelector(name), world) for name in (source, destination))
    explained = explain(Judge(world.engine), client, server, packet)
    by_maps = world.judge(world.find(source), world.find(destination), protocol=packet.protocol, port=packet.port)
    assert explained.allowed == by_maps.allowed
    return explained


def _with_suggestion(world: DescribedCluster, suggestion: str) -> DescribedCluster:
    return _build([*world.description.policies, yaml.safe_load(suggestion)])


def _check(world: DescribedCluster, direction: str, other: str, port: str, end: str, wish: Wish) -> None:
    side = _ask(world, direction, other, port)
    assert not side.allowed
    assert side.because == "default-deny"
    assert "CiliumNetworkPolicy/shop/isolate" in side.isolated_by
    near = side.nearest[0]
    assert (near.policy, near.rule) == ("CiliumNetworkPolicy/shop/near", f"spec.{direction}[0]")
    (mismatch,) = near.mismatches
    assert (mismatch.criterion, mismatch.kind, mismatch.wanted, mismatch.found) == (
        end,
        wish.what,
        wish.wanted,
        wish.found,
    )
    healed = _with_suggestion(world, side.suggestion)
    assert _ask(healed, direction, other, port).allowed
    assert _ask(healed, direction, other, "7/SCTP").allowed is False


def _fits(world: DescribedCluster, direction: str, peer: Wish, port: Wish) -> None:
    side = _ask(world, direction, peer.fits, port.fits)
    assert side.allowed
    assert [place.policy for place in side.rules] == ["CiliumNetworkPolicy/shop/near"]


DIRECTIONS = ("ingress", "egress")


@pytest.mark.parametrize(("direction", "peer", "port"), [*product(DIRECTIONS, PEERS, [ANY_PORT, *PORTS])])
def test_a_rule_for_another_peer_is_named_with_what_differs(direction: str, peer: Wish, port: Wish) -> None:
    world = _world(direction, peer, port, {"app": "db"})
    _fits(world, direction, peer, port)
    _check(world, direction, peer.misses, port.fits, "peer", peer)


@pytest.mark.parametrize(("direction", "peer", "port"), [*product(DIRECTIONS, [ANY_PEER, *PEERS], PORTS)])
def test_a_rule_for_another_port_is_named_with_what_differs(direction: str, peer: Wish, port: Wish) -> None:
    world = _world(direction, peer, port, {"app": "db"})
    _fits(world, direction, peer, port)
    _check(world, direction, peer.fits, port.misses, "port", port)


SUBJECTS = [
    ({"app": "dbb"}, Wish({}, "", "", "label", "app=dbb", "app=db")),
    ({"zone": "a"}, Wish({}, "", "", "label", "zone=a", "no zone")),
]


@pytest.mark.parametrize(("direction", "peer", "case"), [*product(DIRECTIONS, PEERS, SUBJECTS)])
def test_a_rule_of_a_policy_for_somebody_else_is_named_with_its_selector(
    direction: str, peer: Wish, case: tuple[Json, Wish]
) -> None:
    world = _world(direction, peer, PORTS[0], case[0])
    _check(world, direction, peer.fits, PORTS[0].fits, "subject", case[1])


def test_a_deny_rule_is_named_and_no_policy_is_proposed_against_it() -> None:
    deny = _policy("deny", {}, ingressDeny=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}])
    allow = _policy("allow", {}, ingress=[{"fromEntities": ["all"]}])
    side = _ask(_build([deny, allow]), "ingress", "shop/web", "80/TCP")
    assert (side.allowed, side.because, side.suggestion) == (False, "rule", "")
    assert [(place.policy, place.rule) for place in side.rules] == [
        ("CiliumNetworkPolicy/shop/deny", "spec.ingressDeny[0]")
    ]


def test_every_rule_that_alone_allows_is_named() -> None:
    policies = [_policy(name, {}, ingress=[{"fromEntities": ["all"]}, {"fromEntities": ["cluster"]}]) for name in "ab"]
    side = _ask(_build(policies), "ingress", "shop/web", "80/TCP")
    assert [place.policy[-1] + place.rule for place in side.rules] == [
        f"{name}spec.ingress[{i}]" for name in "ab" for i in (0, 1)
    ]


def test_where_no_policy_isolates_and_where_no_endpoint_is_nothing_is_denied() -> None:
    explained = _explain(_build([]), "world", "shop/db", "80/TCP")
    assert explained.egress.because == "not-enforced"
    assert explained.ingress.because == "open"


def test_modes_and_the_node_itself_are_reasons_of_their_own() -> None:
    isolate = _policy("isolate", {}, ingress=[{}])
    assert _ask(_build([isolate]), "ingress", "host", "80/TCP").because == "host"
    assert _ask(_build([isolate], mode="never"), "ingress", "lab/web", "80/TCP").because == "mode"
    closed = _ask(_build([], mode="always"), "ingress", "lab/web", "80/TCP")
    assert (closed.because, closed.isolated_by, closed.allowed) == ("closed", (), False)


def test_a_port_name_means_the_number_that_each_pod_gives_it() -> None:
    rule = {"toPorts": [{"ports": [{"port": "sql", "protocol": "TCP"}]}]}
    policy = _policy("named", {"app": "db"}, ingress=[rule])
    (unnamed,) = _ask(_build([policy]), "ingress", "lab/web", "5432/TCP").nearest[0].mismatches
    assert (unnamed.kind, unnamed.found) == ("port-name", "nobody names it")
    twin = {**PODS[0], "name": "db-2", "ports": [{"name": "sql", "port": 5433}]}
    pods = [{**PODS[0], "ports": SQL}, twin, *PODS[1:]]
    both = _build([policy], pods)
    for pod, open_port, closed_port in (("shop/db", "5432/TCP", "5433/TCP"), ("shop/db-2", "5433/TCP", "5432/TCP")):
        assert _explain(both, "lab/web", pod, open_port).allowed
        assert not _explain(both, "lab/web", pod, closed_port).allowed
    other = _ask(_build([policy], [{**PODS[0], "ports": SQL}, *PODS[1:]]), "ingress", "lab/web", "80/TCP")
    assert other.nearest[0].mismatches[0].wanted == "sql/TCP (5432)"


def test_an_ip_block_means_pods_as_well_and_its_difference_shows_their_address() -> None:
    spec = {
        "podSelector": {},
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.9/32"]}}]}],
    }
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "block", "namespace": "shop"},
        "spec": spec,
    }
    for address, expected in (
        ("10.0.0.1", None),
        ("10.0.1.1", ("cidr", "10.0.0.0/24", "10.0.1.1/32")),
        ("10.0.0.9", ("except", "an address outside of 10.0.0.9/32", "10.0.0.9/32")),
    ):
        world = _build([policy], [{**pod, "addresses": [address]} if pod["name"] == "web" else pod for pod in PODS])
        side = _ask(world, "ingress", "lab/web", "80/TCP")
        found = [(item.kind, item.wanted, item.found) for near in side.nearest for item in near.mismatches]
        assert found == ([] if expected is None else [expected])


def test_an_imagined_pod_has_the_labels_of_its_namespace() -> None:
    labels = {"k8s:io.cilium.k8s.namespace.labels.team": "red", "app": "new"}
    policy = _policy("team", {"app": "db"}, ingress=[{"fromEndpoints": [{"matchLabels": labels}]}])
    world = _build([policy], namespaces={"lab": {"team": "red"}})
    target = find_party(world.engine, PeerSelector("shop/db"), world)
    for namespace, allowed in (("lab", True), ("attic", False)):
        imagined = find_party(world.engine, PeerSelector(labels=("app=new",), namespace=namespace), world)
        assert explain(Judge(world.engine), imagined, target, Packet(6, 80)).allowed is allowed


def test_a_proposed_policy_isolates_nobody_that_was_open() -> None:
    isolate = _policy("isolate", {"tier": "back"}, ingress=[{}])
    pods = [*PODS, {"namespace": "shop", "name": "db-2", "labels": {"app": "db", "tier": "back", "more": "1"}}]
    world = _build([isolate], pods)
    suggestion = _ask(world, "ingress", "lab/web", "80/TCP").suggestion
    healed = _with_suggestion(world, suggestion)
    assert _explain(healed, "shop/web", "shop/webb", "80/TCP").allowed


def test_an_unknown_name_is_refused() -> None:
    world = _build([])
    with pytest.raises(UnknownParty, match="'moon'"):
        find_party(world.engine, PeerSelector("moon"), world)
