"""``cilia policy verdicts``: described clusters, judged by the engine and printed as JSON."""

import json
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cilia.policy.errors import BadPolicy
from cilia.policy.explain.parties import ENTITIES
from cilia.policy.simulate.cluster import DescribedCluster, DescribedParty, build_cluster
from cilia.policy.simulate.description import read_description
from laboratory.command_line import cilia
from tests.unit.policy.corpus import PROTOCOLS, load
from tests.unit.policy.corpus import labels_of as identity_labels

Json = Any
KIND = {"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1"}
SHOP: Json = {
    "namespaces": {"shop": {"team": "red"}, "lab": {}},
    "pods": [
        {"namespace": "shop", "name": "web", "labels": {"app": "web"}, "addresses": ["10.0.0.1"]},
        {
            "namespace": "shop",
            "name": "db",
            "labels": {"app": "db"},
            "ports": [{"name": "sql", "port": 5432}],
        },
        {"namespace": "lab", "name": "bench", "labels": {"app": "web"}},
    ],
    "policies": [
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {
                "endpointSelector": {"matchLabels": {"app": "db"}},
                "ingress": [
                    {
                        "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                        "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
                    },
                    {"fromCIDR": ["192.0.2.0/24"]},
                ],
            },
        }
    ],
    "probes": ["sql/TCP"],
}


def run(description: Json, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return cilia("policy", "verdicts", "-f", "-", *arguments, text=json.dumps(description))


def judge(description: Json, *arguments: str) -> dict[tuple[str, str], Json]:
    done = run(description, *arguments)
    assert done.returncode == 0, done.stderr
    return {(row["source"], row["destination"]): row for row in json.loads(done.stdout)["verdicts"]}


def test_each_verdict_names_the_policy_behind_it() -> None:
    found = judge(SHOP)
    assert found["shop/web", "shop/db"] == {
        "source": "shop/web",
        "destination": "shop/db",
        "protocol": "TCP",
        "port": 5432,
        "allowed": True,
        "egress": {"verdict": "allowed", "by": "default"},
        "ingress": {"verdict": "allowed", "by": "CiliumNetworkPolicy/shop/db"},
    }
    assert found["lab/bench", "shop/db"]["allowed"] is False
    assert found["shop/db", "shop/web"]["allowed"] is None


def test_addresses_and_entities_are_judged_with_the_pods() -> None:
    found = judge({**SHOP, "addresses": ["192.0.2.9", "198.51.100.1"], "entities": ["host"]}, "--port", "80/TCP")
    assert found["192.0.2.9", "shop/db"]["allowed"] is True
    assert found["198.51.100.1", "shop/db"]["allowed"] is False
    assert found["host", "shop/db"]["ingress"] == {"verdict": "allowed", "by": "default"}
    assert found["shop/db", "host"]["ingress"] == {"verdict": "not-enforced", "by": ""}


def test_the_mode_always_closes_what_no_policy_names() -> None:
    assert judge(SHOP, "--port", "80/TCP")["shop/db", "shop/web"]["allowed"] is True
    assert judge({**SHOP, "mode": "always"}, "--port", "80/TCP")["shop/db", "shop/web"]["allowed"] is False


def test_policies_are_read_from_files_beside_the_description(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(SHOP["policies"][0]))
    alone = {key: value for key, value in SHOP.items() if key != "policies"}
    assert judge(alone, "--policies", str(tmp_path)) == judge(SHOP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pod": []}, "unknown field `pod`"),
        ({"pods": [{"name": "a"}, {"name": "a"}]}, "default/a comes twice"),
        ({"probes": ["80/HTTP"]}, "no port/protocol"),
        ({"probes": []}, "no probes"),
        ({"mode": "sometimes"}, "sometimes"),
        ({"entities": ["moon"]}, "'moon'"),
        ({"pods": [{"name": "a", "addresses": ["10.0.0.300"]}]}, "10.0.0.300"),
        ({"policies": [{"kind": "NetworkPolicy"}]}, "apiVersion"),
    ],
)
def test_what_is_wrong_is_named_in_one_line_with_exit_code_2(change: Json, message: str) -> None:
    done = run({**SHOP, **change})
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_cases_of_kubernetes_network_policies_hold_through_the_command_line() -> None:
    for case in load("kubernetes-networkpolicy.json")["cases"][::12]:
        step = case["steps"][0]
        found = run(_described(step))
        assert found.returncode == 0, found.stderr
        for row in json.loads(found.stdout)["verdicts"]:
            assert row["allowed"] == _expected(step, row), (case["description"], row)


def _described(step: Json) -> Json:
    pods = [
        {
            "namespace": pod["ns"],
            "name": pod["name"],
            "labels": pod["labels"],
            "addresses": [pod["ip"]],
            "ports": pod["ports"],
        }
        for pod in step["pods"]
    ]
    policies = [{**KIND, **policy} for policy in step["policies"]]
    probes = [f"{port}/{protocol}" for protocol, port in map(_split, step["expected"])]
    return {"namespaces": step["namespaces"], "pods": pods, "policies": policies, "probes": probes}


def _split(probe: str) -> tuple[str, str]:
    protocol, _, port = probe.partition("/")
    return protocol, port


def _expected(step: Json, row: Json) -> bool:
    order = step["order"]
    place = order.index(row["source"]), order.index(row["destination"])
    for probe, matrix in step["expected"].items():
        protocol, port = _split(probe)
        target = next(pod for pod in step["pods"] if f"{pod['ns']}/{pod['name']}" == row["destination"])
        numbers = {item["name"]: item["port"] for item in target["ports"] if item["protocol"] == protocol}
        if protocol == row["protocol"] and row["port"] in (port, numbers.get(port), int(port) if port.isdigit() else 0):
            letter = matrix["combined"][place[0]][place[1]]
            return bool(row["allowed"] if letter == "-" else letter == ".")
    raise AssertionError(row)


def test_a_flow_is_explained_without_a_cluster() -> None:
    arguments = ("explain", "-f", "-", "--from", "lab/bench", "--to", "shop/db", "--port", "sql/TCP")
    done = cilia("policy", *arguments, text=json.dumps(SHOP))
    assert done.returncode == 0, done.stderr
    assert "lab/bench -> shop/db 5432/TCP: DENIED" in done.stdout
    assert "peer: namespace: wants namespace=shop; here namespace=lab" in done.stdout
    assert "k8s:io.kubernetes.pod.namespace: lab" in done.stdout


def test_cilium_clusters_put_as_descriptions_have_the_peers_verdicts() -> None:
    data = load("cilium-networkpolicy.json")
    judged = 0
    for cluster in data["clusters"][:40]:
        world = _world_of(cluster)
        if world is None:
            continue
        states = {row: letters for row, letters in cluster["subjects"].items() if int(row) > 255}
        for number, subject in states.items():
            for direction in "ie":
                letters = iter(subject.get(direction) or "A" * len(cluster["peers"]) * len(data["probes"]))
                for peer, (protocol, port) in product(cluster["peers"], data["probes"]):
                    expected = next(letters) == "A"
                    if (other := _party(world, cluster, peer)) is None:
                        continue
                    ends = (other, world.find(number)) if direction == "i" else (world.find(number), other)
                    found = world.judge(*ends, protocol=PROTOCOLS[protocol], port=port)
                    side = found.ingress if direction == "i" else found.egress
                    assert side is not None
                    assert side.allowed == expected, (cluster["name"], number, direction, peer, protocol, port)
                    judged += 1
    assert judged > 50_000


def _world_of(cluster: Json) -> DescribedCluster | None:
    """Return a corpus' cluster as a world; None if we refuse one of its policies."""
    identities = [
        {
            "id": row["id"],
            "labels": [str(label) for label in identity_labels(cluster, row)],
            "ports": [
                {"name": name, "port": int(text.split("/")[0]), "protocol": text.split("/")[1]}
                for name, text in (row.get("ports") or {}).items()
            ],
        }
        for row in cluster["identities"]
    ]
    description = {
        "identities": identities,
        "policies": cluster["policies"],
        "dual_stack": cluster["ipv6"],
        "cluster": "default",
    }
    try:
        return build_cluster(read_description(json.dumps(description), "corpus"))
    except BadPolicy:
        return None


def _party(world: DescribedCluster, cluster: Json, peer: int) -> DescribedParty | None:
    """Return a peer of the corpus by its number; a prefix goes by an address that the corpus gives
    to it alone.
    """
    if str(peer) in world.parties:
        return world.find(str(peer))
    if peer < 256:
        return world.find(next(name for name, number in ENTITIES.items() if number == peer))
    address = next((text for text, number in cluster["ext_ids"].items() if number == peer), None)
    return world.find(address) if address else None
