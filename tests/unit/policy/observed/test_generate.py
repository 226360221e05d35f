"""``cilia policy generate``: policies out of recorded flows, and the proof that they are exact."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cilia.policy.language.parse import parse_policies
from tests.unit.policy.observed.record import DB, DNS, WEB, flow, outside, pod, run, write, write_flows


@pytest.fixture
def flows(tmp_path: Path) -> str:
    return write_flows(tmp_path / "flows.json")


def generate(*arguments: str) -> tuple[int, dict[str, Any], str]:
    done = run("generate", "--from-flows", *arguments)
    return done.returncode, {item["metadata"]["name"]: item for item in yaml.safe_load_all(done.stdout)}, done.stderr


def test_what_was_allowed_is_allowed_by_the_workloads_labels_and_nothing_else(flows: str) -> None:
    code, found, said = generate("--flows", flows, "--namespace", "shop")
    assert code == 0, said
    assert "10 sides of recorded allowed flows stay allowed" in said
    assert found.keys() == {"web", "db"}
    assert found["db"]["spec"] == {
        "endpointSelector": {"matchLabels": {"app": "db"}},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
            },
            {
                "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                "icmps": [{"fields": [{"family": "IPv4", "type": 8}]}],
            },
        ],
        "egress": [
            {
                "toEndpoints": [{"matchLabels": {"app": "coredns", "k8s:io.kubernetes.pod.namespace": "kube-system"}}],
                "toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}]}],
            }
        ],
    }
    to_world = next(rule for rule in found["web"]["spec"]["egress"] if "toCIDR" in rule)
    assert to_world["toCIDR"] == ["192.0.2.10/31"]


def test_a_proposal_applied_to_the_record_changes_nothing_but_what_was_denied_stays_so(
    tmp_path: Path, flows: str
) -> None:
    done = run("generate", "--from-flows", "--flows", flows)
    new = tmp_path / "new.yaml"
    new.write_text(done.stdout)
    found = json.loads(run("diff", "--flows", flows, "-f", str(new), "-o", "json").stdout)
    assert (found["newly_denied"], found["newly_allowed"]) == ([], [])
    assert found["still_denied"]["flows"] == 2


def test_one_workload_alone_gets_a_policy(flows: str) -> None:
    assert generate("--flows", flows, "--workload", "shop/db")[1].keys() == {"db"}
    assert generate("--flows", flows, "--labels", "app=web")[1].keys() == {"web"}
    assert run("generate", "--from-flows", "--flows", flows, "--workload", "shop/nobody").returncode == 2
    assert run("generate", "--from-flows", "--flows", flows, "--labels", "=").returncode == 2


def test_labels_of_copies_are_left_out_unless_they_tell_who_is_allowed(tmp_path: Path) -> None:
    one, other = (pod("shop", "web", **{"pod-template-hash": digits}) for digits in ("5d4f", "77aa"))
    both = write_flows(tmp_path / "both.json", [flow(one, DB, "80/TCP"), flow(other, DB, "80/TCP")])
    _, found, _ = generate("--flows", both, "--workload", "shop/db")
    assert found["db"]["spec"]["ingress"][0]["fromEndpoints"] == [{"matchLabels": {"app": "web"}}]
    mixed = write_flows(tmp_path / "mixed.json", [flow(one, DB, "80/TCP"), flow(other, DB, "80/TCP", "denied")])
    code, found, _ = generate("--flows", mixed, "--workload", "shop/db")
    (peer,) = found["db"]["spec"]["ingress"][0]["fromEndpoints"]
    assert (code, peer["matchLabels"]["pod-template-hash"]) == (0, "5d4f")


def test_many_addresses_become_the_world_and_that_is_said(tmp_path: Path) -> None:
    seen = [flow(WEB, outside(f"192.0.{number}.10"), "443/TCP", egress=True) for number in range(20)]
    seen.append(flow(WEB, outside("198.51.100.1"), "443/TCP", "denied", egress=True))
    record = write_flows(tmp_path / "flows.json", seen)
    code, found, said = generate("--flows", record, "--workload", "shop/web")
    assert found["web"]["spec"]["egress"][0]["toEntities"] == ["world"]
    assert (code, "OPENED: shop/web -> 198.51.100.1 443/TCP (egress)" in said) == (1, True)
    code, found, _ = generate("--flows", record, "--workload", "shop/web", "--most-addresses", "20")
    assert (code, len(found["web"]["spec"]["egress"][0]["toCIDR"])) == (0, 20)


def test_what_the_language_cannot_name_is_said(tmp_path: Path) -> None:
    record = write_flows(tmp_path / "flows.json", [flow(WEB, DB, "0/97"), flow(WEB, DB, "80/TCP")])
    code, _, said = generate("--flows", record, "--workload", "shop/db")
    assert (code, "NOT KEPT: shop/web -> shop/db 0/97 (ingress)" in said) == (1, True)


def test_a_workload_that_only_sends_is_closed_for_ingress(tmp_path: Path) -> None:
    _, found, _ = generate(
        "--flows", write_flows(tmp_path / "flows.json", [flow(WEB, DNS, "53/UDP")]), "--namespace", "shop"
    )
    (parsed,) = parse_policies(json.dumps(found["web"]))
    (spec,) = parsed.policy.specs
    assert spec.isolates_ingress
    assert found["web"]["spec"]["ingress"] == [{}]


def test_a_proposal_uses_all_of_its_rules(tmp_path: Path, flows: str) -> None:
    proposal = json.loads(run("generate", "--from-flows", "--flows", flows, "-o", "json").stdout)
    new = write(tmp_path / "new.yaml", *proposal["policies"])
    assert run("unused", "--flows", flows, "--policies", new, "--fail").returncode == 0
