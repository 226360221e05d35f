"""Verdicts and decisions of others on policies from the wild, against ours.

Each difference has a name and a reason.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cilia.contracts.ids import Identity
from cilia.contracts.labels import workload
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import EndpointsChanged, Event, IdentityPut, PolicyPut
from cilia.policy.engine.options import Options
from cilia.policy.engine.rules import Policy, PortRange
from cilia.policy.engine.selectors import ContainerPort
from cilia.policy.engine.verdict import StateLookup
from cilia.policy.errors import BadPolicy
from cilia.policy.language.parse import parse_policies
from tests.unit.policy.corpus import PROTOCOLS, Json, directory, identities_of, load

EVERY_TYPE = 254
"""Stands in for ICMP type 0, which the peer takes as every type and we refuse."""

REFUSED_CLUSTERS = ("port/hex", "port/octal", "port/range-reversed", "port/range-from-0", "port/named-with-end")

TYPE_0 = ("icmp-type-0",)

STRICTER = {
    "shape/empty-specs": "an object that says nothing",
    "shape/unknown-field": "a misspelt field would be passed over in silence",
    "port/hex": "0x50 is port 80 or a name, by version",
    "port/octal": "010 is 8 or 10, by version",
    "port-egressDeny/range-reversed": "an endPort below its port is passed over",
    "port/range-name": "the endPort of a named port is passed over",
    "icmp/minus": "no ICMP type is negative",
    "icmp/40/ingress": "type 0 turns into every type",
    "icmp/40/ingressDeny": "type 0 turns into every type",
    "l7/bad-host": "the host is no regular expression",
    "l7/deny-with-rules": "rules in a deny section are passed over",
    "services/bad-empty": "a service without name or selector",
}
SCHEMA_ONLY = {
    "entity/from/world-ipv4": "its agent takes the entity, only its schema doesn't",
    "cidr/from/10.0.0.1": "its agent takes a lone address, only its schema doesn't",
    "cidr/from/2001:DB8::1": "its agent takes capital digits, only its schema doesn't",
    "l7/none": "its agent takes rules that say nothing, only its schema doesn't",
}
"""The peer's agent takes them, only its schema doesn't; they are harmless and clear."""
BEHIND_FLAGS = {
    "unit:TestL7RulesWithNodeSelector#2": "node selectors aren't enforced at all yet",
    "peers/ingress/fromNodes": "nodes with labels always have identities by which they are selected",
    "port/proto-igmp": "the peer takes it with extended protocols on",
}


def _without_type_0(policy: Json) -> Json:
    if isinstance(policy, list):
        return [_without_type_0(item) for item in policy]
    if not isinstance(policy, dict):
        return policy
    if policy.get("type") in (0, "EchoReply") and policy.get("family") != "IPv6":
        return {**policy, "type": EVERY_TYPE}
    return {key: _without_type_0(value) for key, value in policy.items()}


def _with_every_type(policy: Policy) -> Policy:
    def widen(port: object) -> object:
        return PortRange(1) if port == PortRange(1, EVERY_TYPE, EVERY_TYPE) else port

    specs = [
        replace(
            spec,
            rules=tuple(
                replace(rule, ports=rule.ports and tuple(map(widen, rule.ports)))  # type: ignore[arg-type]
                for rule in spec.rules
            ),
        )
        for spec in policy.specs
    ]
    return Policy(policy.key, tuple(specs))


def _differences(cluster: Json, probes: list[tuple[int, int]]) -> list[str]:
    engine = Engine(Options(dual_stack=cluster["ipv6"], reserved_subjects=frozenset(map(Identity, (4, 5, 8)))))
    texts = [json.dumps(_without_type_0(policy)) for policy in cluster["policies"]]
    parsed = [item.policy for text in texts for item in parse_policies(text, cluster="default")]
    engine.apply([*(PolicyPut(_with_every_type(policy)) for policy in parsed), *identities_of(cluster)])
    flows = [(Identity(peer), *probe) for peer in cluster["peers"] for probe in probes]
    found = []
    for number, subject in cluster["subjects"].items():
        state = StateLookup(engine.map_state(Identity(int(number))))
        for direction in "ie":
            expected = subject.get(direction) or "A" * len(flows)
            for flow, letter in zip(flows, expected, strict=True):
                verdict = state.decide(flow[0], egress=direction == "e", protocol=flow[1], port=flow[2])
                ours = "A" if verdict.allowed else "D" if verdict.entry else "n"
                if ours != letter:
                    found.append(f"{cluster['name']} {number} {direction} {flow}: {ours} instead of {letter}")
    return found


@pytest.mark.parametrize("name", ["cilium-networkpolicy.json", "cilium-networkpolicy-edge.json"])
def test_every_verdict_on_cilium_policies_is_the_peers(name: str) -> None:
    data = load(name)
    probes = [(PROTOCOLS[protocol], port) for protocol, port in data["probes"]]
    judged = [item for item in data["clusters"] if not item["name"].startswith(REFUSED_CLUSTERS)]
    assert [line for cluster in judged for line in _differences(cluster, probes)] == []


def test_input_that_the_peer_misreads_is_refused() -> None:
    for cluster in load("cilium-networkpolicy-edge.json")["clusters"]:
        if cluster["name"].startswith((*REFUSED_CLUSTERS, *TYPE_0)):
            with pytest.raises(BadPolicy, match=r"port|endPort|type"):
                parse_policies(json.dumps(cluster["policies"][0]))


def test_policies_are_accepted_and_refused_as_by_the_peer_but_for_those_that_are_named() -> None:
    ours, theirs = {}, {}
    for case in load("cilium-validation.json")["cases"]:
        ours[case["name"]] = _accepts(json.dumps(case["policy"]))
        theirs[case["name"]] = case["accepted"] and case["schema_ok"]
    differ = {name for name, accepted in ours.items() if accepted != theirs[name]}
    assert {name for name in differ if not ours[name]} == STRICTER.keys()
    assert {name for name in differ if ours[name]} == SCHEMA_ONLY.keys() | BEHIND_FLAGS.keys()


def test_every_difference_is_documented_with_its_reason() -> None:
    page = (Path(__file__).parents[4] / "docs" / "policy.md").read_text()
    for effect, cases in (("refused", STRICTER), ("accepted", SCHEMA_ONLY | BEHIND_FLAGS)):
        listed = re.findall(rf"^\| `([^`]+)` \| {effect} \| (.+) \|$", page, re.MULTILINE)
        assert dict(listed) == cases
    verdicts = re.findall(r"^\| `([^`]+)`, every cluster of that name \|", page, re.MULTILINE)
    assert sorted(verdicts) == sorted((*REFUSED_CLUSTERS, *TYPE_0))


def test_example_policies_are_accepted_as_by_the_peers_schema() -> None:
    for case in load("schema-verdicts.json"):
        document = list(yaml.safe_load_all((directory() / case["file"]).read_text()))[case["doc"]]
        named_auth = case["file"].endswith("auth/auth.yaml")  # a field of 2023 that the schema's reader passes over
        assert _accepts(json.dumps(document)) == (case["ok"] and not named_auth), case["file"]


def _accepts(text: str) -> bool:
    try:
        parse_policies(text, allow_unenforced=True)
    except BadPolicy:
        return False
    return True


def test_every_case_of_kubernetes_network_policies_holds_in_every_step() -> None:
    for case in load("kubernetes-networkpolicy.json")["cases"]:
        for number, step in enumerate(case["steps"]):
            assert _kubernetes_differences(step) == [], (case["id"], case["description"], number)


def _kubernetes_differences(step: Json) -> list[str]:
    pods = {f"{pod['ns']}/{pod['name']}": pod for pod in step["pods"]}
    identities = {name: Identity(1000 + i) for i, name in enumerate(pods)}
    engine = Engine()
    engine.apply([event for name, pod in pods.items() for event in _pod(step, pod, identities[name])])
    kind = {"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1"}
    for policy in step["policies"]:
        engine.apply([PolicyPut(item.policy) for item in parse_policies(json.dumps({**kind, **policy}))])
    states = {name: StateLookup(engine.map_state(identity)) for name, identity in identities.items()}
    found = []
    for probe, matrix in step["expected"].items():
        protocol, port = probe.split("/")
        for i, source in enumerate(step["order"]):
            for j, target in enumerate(step["order"]):
                if i == j or matrix["combined"][i][j] == "-":
                    continue
                flow = {"protocol": PROTOCOLS[protocol], "port": _number(pods[target], port)}
                out = states[source].decide(identities[target], egress=True, **flow).allowed
                into = states[target].decide(identities[source], egress=False, **flow).allowed
                ours = "".join(".X"[not allowed] for allowed in (into, out, into and out))
                if ours != "".join(matrix[side][i][j] for side in ("ingress", "egress", "combined")):
                    found.append(f"{probe} {source} -> {target}: {ours}")
    return found


def _pod(step: Json, pod: Json, identity: Identity) -> list[Event]:
    ports = frozenset(ContainerPort(port["name"], PROTOCOLS[port["protocol"]], port["port"]) for port in pod["ports"])
    labels = workload(pod["ns"], pod["labels"], step["namespaces"][pod["ns"]])
    return [IdentityPut(identity, labels), EndpointsChanged(identity, frozenset({pod["ip"]}), ports)]


def _number(pod: Json, port: str) -> int:
    return int(port) if port.isdigit() else next(item["port"] for item in pod["ports"] if item["name"] == port)
