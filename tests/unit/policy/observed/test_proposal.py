"""Policies proposed out of flows: what was allowed stays allowed, in few meaningful words."""

from typing import Any

import pytest

from cilia.contracts.flows import PolicyVerdict, RecordedPeer
from cilia.contracts.labels import parse_labels
from cilia.policy.explain.packet import Packet
from cilia.policy.observed.flows import ObservedFlow
from cilia.policy.observed.proposal import WorkloadFilter, can_express, collapse, is_workload, propose

TCP, UDP, ICMP, ICMPV6, GRE = 6, 17, 1, 58, 47
ALL = WorkloadFilter()
HOST = RecordedPeer(("reserved:host",))
WORLD = RecordedPeer(("reserved:world",))


def pod(app: str, *more: str, namespace: str = "shop", workload: str = "") -> RecordedPeer:
    labels = (f"k8s:app={app}", f"k8s:io.kubernetes.pod.namespace={namespace}", *more)
    return RecordedPeer(tuple(sorted(labels)), workload or f"{namespace}/{app}")


def outside(address: str) -> RecordedPeer:
    return RecordedPeer(("reserved:world",), address=address)


def flow(
    source: RecordedPeer,
    destination: RecordedPeer,
    port: int = 80,
    protocol: int = TCP,
    verdict: PolicyVerdict = PolicyVerdict.ALLOWED,
) -> ObservedFlow:
    return ObservedFlow(source, destination, Packet(protocol, port), verdict, 1, 1, 2)


def specs(*flows: ObservedFlow, wanted: WorkloadFilter = ALL, **options: Any) -> dict[str, dict[str, Any]]:
    """Return the proposed specs by the name of their policy."""
    found = propose(flows, wanted, **{"max_prefixes": 10, **options})
    return {each["metadata"]["name"]: each["spec"] for each in found}


def endpoints(app: str, **more: str) -> dict[str, Any]:
    return {"matchLabels": {"app": app, **more}}


def tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"ports": [{"port": str(port), "protocol": "TCP"} for port in ports]}]


def test_each_side_of_an_allowed_flow_becomes_a_rule_and_the_other_directions_stay_shut() -> None:
    found = specs(flow(pod("web"), pod("db"), 5432))
    assert found["web"]["egress"] == [{"toEndpoints": [endpoints("db")], "toPorts": tcp(5432)}]
    assert found["db"]["ingress"] == [{"fromEndpoints": [endpoints("web")], "toPorts": tcp(5432)}]
    assert (found["web"]["ingress"], found["db"]["egress"]) == ([{}], [{}])
    assert found["db"]["endpointSelector"] == endpoints("db")


@pytest.mark.parametrize("verdict", [PolicyVerdict.DENIED, PolicyVerdict.AUDITED])
def test_what_was_not_allowed_is_no_rule(verdict: PolicyVerdict) -> None:
    assert specs(flow(pod("web"), pod("db"), verdict=verdict)) == {}


def test_labels_that_tell_copies_and_versions_apart_are_left_out_unless_asked_for() -> None:
    one = pod("web", "k8s:pod-template-hash=1", "k8s:app.kubernetes.io/version=7")
    other = pod("web", "k8s:pod-template-hash=2", "k8s:app.kubernetes.io/version=8")
    flows = flow(one, pod("db")), flow(other, pod("db"))
    assert specs(*flows)["web"]["endpointSelector"] == endpoints("web")
    found = specs(*flows, every_label=True)
    assert {name: len(spec["endpointSelector"]["matchLabels"]) for name, spec in found.items()} == {
        "db": 1,
        "web": 3,
        "web-2": 3,
    }


def test_labels_of_namespace_cluster_and_ports_select_nobody_and_other_sources_are_named() -> None:
    peer = pod(
        "web",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.policy.cluster=c1",
        "container:image=nginx",
    )
    assert specs(flow(peer, pod("db")))["web"]["endpointSelector"] == endpoints("web", **{"container:image": "nginx"})


def test_a_peer_of_another_namespace_is_named_with_it() -> None:
    found = specs(flow(pod("web", namespace="front"), pod("db")))
    assert found["db"]["ingress"][0]["fromEndpoints"] == [
        endpoints("web", **{"k8s:io.kubernetes.pod.namespace": "front"})
    ]


def test_peers_with_the_same_ports_share_a_rule() -> None:
    found = specs(flow(pod("web"), pod("db")), flow(pod("job"), pod("db")), flow(pod("job"), pod("db"), 81))
    assert found["db"]["ingress"] == [
        {"fromEndpoints": [endpoints("job")], "toPorts": tcp(80, 81)},
        {"fromEndpoints": [endpoints("web")], "toPorts": tcp(80)},
    ]


def test_a_rule_has_no_more_ports_than_a_policy_may_and_continues_in_the_next_group() -> None:
    (rule,) = specs(*(flow(pod("web"), pod("db"), port) for port in range(1, 91)))["db"]["ingress"]
    assert [len(group["ports"]) for group in rule["toPorts"]] == [40, 40, 10]


def test_neighbouring_addresses_are_the_fewest_prefixes_and_too_many_are_the_world() -> None:
    flows = [flow(outside(f"192.0.2.{number}"), pod("web")) for number in (0, 1, 2, 3, 9)]
    assert specs(*flows)["web"]["ingress"][0]["fromCIDR"] == ["192.0.2.0/30", "192.0.2.9/32"]
    assert specs(*flows, max_prefixes=1)["web"]["ingress"][0]["fromEntities"] == ["world"]


def test_collapsing_keeps_the_families_apart_and_adds_no_address() -> None:
    assert list(map(str, collapse(["10.0.0.1", "fd00::1", "10.0.0.0", "fd00::"]))) == ["10.0.0.0/31", "fd00::/127"]
    assert collapse([]) == []


def test_a_node_needs_no_rule_to_reach_its_pods_and_pods_need_one_to_reach_it() -> None:
    assert specs(flow(HOST, pod("web")))["web"]["ingress"] == [{}]
    assert specs(flow(pod("web"), HOST))["web"]["egress"] == [{"toEntities": ["host"], "toPorts": tcp(80)}]
    assert specs(flow(pod("web"), WORLD))["web"]["egress"][0]["toEntities"] == ["world"]


def test_icmp_stands_in_a_rule_of_its_own_beside_the_ports() -> None:
    web, db = pod("web"), pod("db")
    found = specs(flow(web, db), flow(web, db, 8, ICMP), flow(web, db, 128, ICMPV6))
    assert [each.keys() - {"fromEndpoints"} for each in found["db"]["ingress"]] == [{"toPorts"}, {"icmps"}]
    assert found["db"]["ingress"][1]["icmps"] == [
        {"fields": [{"family": "IPv4", "type": 8}, {"family": "IPv6", "type": 128}]}
    ]


def test_protocols_without_ports_are_named_with_the_port_of_all() -> None:
    (rule,) = specs(flow(pod("a"), pod("b"), 0, GRE))["b"]["ingress"]
    assert rule["toPorts"] == [{"ports": [{"port": "0", "protocol": "GRE"}]}]


@pytest.mark.parametrize(
    ("packet", "expressible"),
    [
        (Packet(TCP, 80), True),
        (Packet(TCP, 0), False),
        (Packet(ICMP, 8), True),
        (Packet(ICMP, 0), False),
        (Packet(GRE, 0), True),
        (Packet(200, 0), False),
    ],
)
def test_a_rule_can_name_real_ports_and_types_and_protocols_with_a_name(packet: Packet, expressible: bool) -> None:
    assert can_express(packet) is expressible
    rules = specs(flow(pod("web"), pod("db"), packet.port, packet.protocol))["db"]["ingress"]
    assert (rules != [{}]) is expressible


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (WorkloadFilter(namespace="shop"), {"web", "db"}),
        (WorkloadFilter(namespace="front"), {"gate"}),
        (WorkloadFilter(workload="shop/db"), {"db"}),
        (WorkloadFilter(labels=parse_labels(["k8s:app=web"])), {"web"}),
        (WorkloadFilter(namespace="front", workload="shop/db"), set()),
    ],
)
def test_policies_are_proposed_for_the_workloads_that_are_wanted(wanted: WorkloadFilter, names: set[str]) -> None:
    flows = flow(pod("web"), pod("db")), flow(pod("gate", namespace="front"), pod("web"))
    assert specs(*flows, wanted=wanted).keys() == names


def test_only_pods_in_a_namespace_are_workloads() -> None:
    assert is_workload(pod("web"))
    assert not any(map(is_workload, (HOST, WORLD, outside("192.0.2.1"), RecordedPeer(("k8s:app=web",)))))


def test_names_come_from_workloads_and_are_unique_in_their_namespace() -> None:
    one, two = pod("a", workload="shop/My_App"), pod("b", workload="shop/my.app")
    elsewhere, nameless = pod("c", namespace="x", workload="x/my-app"), pod("d", workload="shop/___")
    found = propose([flow(one, two), flow(elsewhere, nameless)], ALL, max_prefixes=1)
    named = sorted((each["metadata"]["namespace"], each["metadata"]["name"]) for each in found)
    assert named == [("shop", "my-app"), ("shop", "my-app-2"), ("shop", "workload"), ("x", "my-app")]
