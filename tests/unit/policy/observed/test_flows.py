"""Recorded flows become observed ones: each counted once, with the newest word as the verdict."""

import json

import pytest
from msgspec.structs import replace

from cilia.contracts.flows import PolicyVerdict, RecordedFlow, RecordedPeer
from cilia.contracts.identities import Reserved
from cilia.contracts.ids import Identity
from cilia.contracts.labels import workload
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import PolicyPut
from cilia.policy.explain.packet import Packet
from cilia.policy.language.parse import parse_policies
from cilia.policy.observed.comparison import change_policies, compare
from cilia.policy.observed.flows import gather, name_of
from cilia.policy.observed.judge import FlowJudge
from cilia.policy.observed.parties import RecordedParties
from cilia.policy.observed.record import BadFlows, read_flows
from cilia.policy.observed.shadow import Shadows
from cilia.policy.observed.usage import use_rules

ALLOWED, DENIED, AUDITED = PolicyVerdict.ALLOWED, PolicyVerdict.DENIED, PolicyVerdict.AUDITED


def pod(name: str, **more: str) -> RecordedPeer:
    labels = sorted(str(label) for label in workload("shop", {"app": name, **more}))
    return RecordedPeer(tuple(labels), f"shop/{name}")


def flow(verdict: PolicyVerdict = ALLOWED, *, egress: bool = False, count: int = 1, at: int = 1) -> RecordedFlow:
    return RecordedFlow(pod("web"), pod("db"), "TCP", 80, verdict, egress, count=count, first_ns=at, last_ns=at)


def policy(name: str, app: str, peer: str, *, deny: bool = False, shadow: bool = False) -> str:
    section = "ingressDeny" if deny else "ingress"
    return json.dumps(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "annotations": {"cilia.io/shadow": "true"} if shadow else {},
            },
            "spec": {
                "endpointSelector": {"matchLabels": {"app": app}},
                section: [{"fromEndpoints": [{"matchLabels": {"app": peer}}]}],
            },
        }
    )


def judge(*texts: str) -> FlowJudge:
    return FlowJudge(each.policy for text in texts for each in parse_policies(text))


@pytest.mark.parametrize(
    ("seen", "verdict", "count"),
    [
        ([flow()], ALLOWED, 1),
        ([flow(egress=True, count=10), flow(count=9)], ALLOWED, 10),
        ([flow(egress=True, count=5), flow(count=9)], ALLOWED, 9),
        ([flow(DENIED, egress=True, count=3, at=2), flow(count=4, at=1)], DENIED, 7),
        ([flow(DENIED, egress=True, count=3, at=1), flow(count=4, at=2)], ALLOWED, 7),
        ([flow(egress=True, at=2), flow(DENIED, at=1)], DENIED, 1),
        ([flow(AUDITED, egress=True)], AUDITED, 1),
        ([flow(at=1), flow(AUDITED, at=2), flow(DENIED, at=3)], DENIED, 3),
    ],
    ids=[
        "one side",
        "both nodes report it",
        "one node lost some",
        "egress denied last",
        "egress denied before",
        "ingress denies what egress allowed",
        "audited",
        "the newest word",
    ],
)
def test_what_is_recorded_about_a_flow_is_joined(seen: list[RecordedFlow], verdict: PolicyVerdict, count: int) -> None:
    (found,) = gather(seen)
    assert (found.verdict, found.count, found.packet) == (verdict, count, Packet(6, 80))
    assert found.first_ns == min(each.first_ns for each in seen)
    assert found.last_ns == max(each.last_ns for each in seen)
    assert found.passed is (verdict is not DENIED)


def test_flows_of_other_ends_or_ports_are_others_and_the_most_frequent_come_first() -> None:
    other_port = replace(flow(count=3), port=81)
    other_labels = replace(flow(count=2), source=pod("web", version="2"))
    found = gather([flow(), other_labels, other_port, replace(flow(count=4), protocol="UDP")])
    assert [each.count for each in found] == [4, 3, 2, 1]


def test_ends_have_names() -> None:
    assert name_of(pod("web")) == "shop/web"
    assert name_of(RecordedPeer(("reserved:world",), address="192.0.2.1")) == "192.0.2.1"
    assert name_of(RecordedPeer(("reserved:host",))) == "host"
    assert name_of(RecordedPeer(("k8s:app=web",), identity=300)) == "identity 300"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"port": 65_536}, "flow 0: port: 65536 is not in 0..65535"),
        ({"protocol": "QUIC"}, "flow 0: protocol: 'QUIC' is none of"),
        ({"protocol": "256"}, "flow 0: protocol: '256' is none of"),
        ({"verdict": "perhaps"}, "flow 0: verdict: 'perhaps' is not allowed, denied"),
        ({"source": {"address": "10.0.0.300"}}, "flow 0: '10.0.0.300' does not appear"),
        ({"source": {"identity": 3}}, "flow 0: an end has neither labels nor an address"),
        ({"source": {"labels": [";"]}}, "flow 0: label ';'"),
        ({"source": {"labels": ["a=b"], "prefixes": ["10.0.0.0/33"]}}, "flow 0: '10.0.0.0/33'"),
        ({"port": "80"}, "Expected `int`, got `str`"),
    ],
)
def test_a_record_is_refused_by_flow_and_field(change: dict[str, object], reason: str) -> None:
    ends = {"labels": ["k8s:app=web"]}
    whole = {"source": ends, "destination": ends, "protocol": "TCP", "port": 80, "verdict": "allowed", **change}
    with pytest.raises(BadFlows) as refused:
        read_flows(json.dumps([whole]), "flows.json")
    assert str(refused.value).startswith("flows.json: ")
    assert reason in str(refused.value)


def test_a_right_record_is_read_as_it_stands() -> None:
    text = '[{"source":{"labels":["reserved:host"]},"destination":{"address":"2001:db8::1"},"protocol":"47","port":0,'
    (found,) = read_flows(text + '"verdict":"audited"}]', "-")
    assert (found.protocol, found.verdict, found.destination.address) == ("47", AUDITED, "2001:db8::1")


def test_parties_are_made_once_and_addresses_go_by_the_prefix_that_policies_name() -> None:
    engine = Engine()
    world = json.loads(policy("db", "db", "web"))
    world["spec"]["ingress"] = [{"fromCIDR": ["192.0.2.0/24"]}]
    engine.apply([PolicyPut(each.policy) for each in parse_policies(json.dumps(world))])
    parties = RecordedParties(engine)
    assert parties.find(pod("web")) is parties.find(pod("web"))
    assert parties.find(pod("web")).is_subject
    host = parties.find(RecordedPeer(("reserved:host",)))
    assert (host.peer.identity, host.is_subject) == (Identity(Reserved.HOST), False)
    assert parties.find(RecordedPeer(("reserved:init",))).is_subject
    named = parties.find(RecordedPeer(("reserved:world",), address="192.0.2.9"))
    assert ("cidr", "192.0.2.0/24") in named.peer.labels
    assert ("cidr", "192.0.2.0/24") not in parties.find(RecordedPeer(address="198.51.100.9")).peer.labels
    with pytest.raises(BadFlows, match="shop/web"):
        parties.find(RecordedPeer((";",), "shop/web"))


def test_a_change_is_compared_with_the_policies_before_or_with_what_was_recorded() -> None:
    flows = gather([flow(count=5), replace(flow(DENIED, count=2), source=pod("lab"))])
    after = judge(policy("db", "db", "lab"))
    found = compare(flows, None, after)
    assert [(each.source, each.recorded) for each in found.newly_denied] == [("shop/web", "allowed")]
    assert [each.source for each in found.newly_allowed] == ["shop/lab"]
    assert found.newly_denied[0].isolated_by == ("CiliumNetworkPolicy/shop/db",)
    assert found.newly_allowed[0].rules[0].rule == "spec.ingress[0]"
    found = compare(flows, judge(), after)
    assert (len(found.newly_denied), found.newly_allowed) == (1, ())
    assert (found.still_allowed.flows, found.still_allowed.count, found.still_denied.flows) == (1, 2, 0)


def test_policies_are_changed_by_key() -> None:
    base = {each.policy.key: each.policy for name in "ab" for each in parse_policies(policy(name, "db", "web"))}
    (put,) = (each.policy for each in parse_policies(policy("c", "db", "web")))
    found = change_policies(base, [put], ["CiliumNetworkPolicy/shop/a", "CiliumNetworkPolicy/shop/never"])
    assert [each.key.rpartition("/")[2] for each in found] == ["b", "c"]


def test_a_rule_is_used_by_the_flows_that_it_decides() -> None:
    flows = gather([flow(count=5, at=7), replace(flow(count=2, at=9), source=pod("lab"))])
    uses = use_rules(judge(policy("db", "db", "web"), policy("lab", "db", "lab", deny=True)), flows)
    assert [(each.policy.rpartition("/")[2], each.flows, each.count, each.last_ns) for each in uses] == [
        ("db", 1, 5, 7),
        ("lab", 1, 2, 9),
    ]
    (unused,) = use_rules(judge(policy("db", "db", "nobody")), flows)
    assert (unused.flows, unused.count, unused.last_ns) == (0, 0, 0)


def test_a_policy_in_shadow_tells_what_would_be_and_only_where_it_decides() -> None:
    texts = (policy("open", "db", "web"), policy("shadow", "db", "web", deny=True, shadow=True))
    shadows = Shadows({each.policy.key: each.policy for text in texts for each in parse_policies(text)}, remember=10)
    assert shadows
    (found,) = shadows.judge_all([flow(), replace(flow(), destination=pod("other"))])
    assert (found.allowed, found.would_be, found.policies) == (True, False, ("CiliumNetworkPolicy/shop/shadow",))
    assert shadows.judge(flow()) == found
    none = Shadows({each.policy.key: each.policy for each in parse_policies(texts[0])})
    assert (bool(none), none.judge(flow())) == (False, None)
