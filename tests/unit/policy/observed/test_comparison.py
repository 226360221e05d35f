"""``cilia policy diff`` and ``unused`` on a record of flows in a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.policy.observed.record import (
    BENCH,
    DB,
    HOUR,
    START,
    WEB,
    flow,
    from_app,
    ingress,
    outside,
    policy,
    run,
    write,
    write_flows,
)

NOW = policy("db", ingress("db", from_app("web", "5432"), from_app("web", "9999")))
PING = {"fromEndpoints": [{}], "icmps": [{"fields": [{"family": "IPv4", "type": 8}]}]}


@pytest.fixture
def flows(tmp_path: Path) -> str:
    return write_flows(tmp_path / "flows.json")


@pytest.fixture
def now(tmp_path: Path) -> str:
    return write(tmp_path / "now.yaml", NOW)


def diff(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = run("diff", *arguments, "-o", "json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_what_a_stricter_policy_denies_is_listed_with_how_often_and_when(tmp_path: Path, flows: str, now: str) -> None:
    new = write(tmp_path / "new.yaml", policy("web", ingress("web", from_app("gate", "80"))))
    code, found = diff("--flows", flows, "--policies", now, "-f", new)
    assert code == 1
    changed = {(change["source"], change["recorded"]) for change in found["newly_denied"]}
    assert changed == {("198.51.100.7", "allowed"), ("203.0.113.9", "denied")}
    change = found["newly_denied"][0]
    assert (change["destination"], change["port"]) == ("shop/web", 80)
    assert (change["count"], change["first_ns"], change["last_ns"]) == (3, START, START + HOUR)
    assert change["isolated_by"] == ["CiliumNetworkPolicy/shop/web"]
    assert found["newly_allowed"] == []


def test_removing_a_policy_opens_what_it_denied_and_fails_only_if_that_is_asked_for(flows: str, now: str) -> None:
    given = ("--flows", flows, "--policies", now, "--delete", "shop/db")
    code, found = diff(*given)
    assert code == 0
    opened = {(change["source"], change["port"]) for change in found["newly_allowed"]}
    assert opened == {("lab/bench", 5432), ("shop/web", 8)}
    assert diff(*given, "--fail-on", "allowed")[0] == 1
    assert diff(*given, "--fail-on", "any")[0] == 1
    assert diff(*given, "--fail-on", "never")[0] == 0


def test_the_rules_that_allow_after_the_change_are_named(tmp_path: Path, flows: str, now: str) -> None:
    new = write(tmp_path / "new.yaml", policy("ping", ingress("db", PING)))
    code, found = diff("--flows", flows, "--policies", now, "-f", new)
    assert code == 0
    (change,) = found["newly_allowed"]
    assert change["rules"] == [{"policy": "CiliumNetworkPolicy/shop/ping", "rule": "spec.ingress[0]"}]
    assert found["still_allowed"] == {"flows": 8, "count": 121}


def test_without_policies_in_force_what_was_recorded_is_what_changes(tmp_path: Path, flows: str) -> None:
    new = write(tmp_path / "new.yaml", NOW, policy("web", ingress("web", {"fromEntities": ["world"]})))
    code, found = diff("--flows", flows, "-f", new)
    assert code == 1
    assert [(change["source"], change["port"]) for change in found["newly_denied"]] == [("shop/web", 8)]
    assert [(change["source"], change["port"]) for change in found["newly_allowed"]] == [("203.0.113.9", 22)]


def test_a_prefix_of_the_new_policy_means_the_addresses_in_it(tmp_path: Path, flows: str, now: str) -> None:
    spec = ingress("web", {"fromCIDRSet": [{"cidr": "198.51.0.0/16", "except": ["198.51.101.0/24"]}]})
    code, found = diff("--flows", flows, "--policies", now, "-f", write(tmp_path / "new.yaml", policy("web", spec)))
    assert (code, [change["source"] for change in found["newly_denied"]]) == (1, ["203.0.113.9"])


def test_an_ip_block_means_pods_too_whose_addresses_lie_in_it(tmp_path: Path) -> None:
    block = {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}}]}
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [block]}
    document = {**policy("block", spec), "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    new = write(tmp_path / "new.yaml", document)
    inside = {**WEB, "prefixes": ["10.1.0.0/31", "10.2.0.5/32"]}
    for source, code in ((inside, 0), ({**WEB, "prefixes": ["10.1.0.0/31", "10.9.0.5/32"]}, 1), (WEB, 1)):
        record = write_flows(tmp_path / "flows.json", [flow(source, DB, "80/TCP")])
        assert diff("--flows", record, "-f", new)[0] == code


def test_a_named_port_is_the_one_that_the_destination_names(tmp_path: Path) -> None:
    record = write_flows(tmp_path / "flows.json", [flow(WEB, {**DB, "ports": [["sql", "TCP", 5432]]}, "5432/TCP")])
    new = write(tmp_path / "new.yaml", policy("db", ingress("db", from_app("web", "sql"))))
    assert diff("--flows", record, "-f", new)[0] == 0
    other = write(tmp_path / "other.yaml", policy("db", ingress("db", from_app("web", "http"))))
    assert diff("--flows", record, "-f", other)[0] == 1


def test_a_flow_between_nodes_counts_once_and_the_newest_word_on_it_is_its_verdict(tmp_path: Path) -> None:
    seen = [
        flow(WEB, DB, "80/TCP", egress=True, count=10, last_ns=START + 3),
        flow(WEB, DB, "80/TCP", "denied", count=4, last_ns=START + 4),
        flow(WEB, DB, "80/TCP", count=6, last_ns=START + 2),
        flow(BENCH, DB, "80/TCP", "denied", egress=True, last_ns=START + 1),
        flow(BENCH, DB, "80/TCP", last_ns=START + 2),
    ]
    new = write(tmp_path / "new.yaml", policy("else", ingress("else", {})))
    _, found = diff("--flows", write_flows(tmp_path / "flows.json", seen), "-f", new)
    assert [(change["source"], change["count"]) for change in found["newly_allowed"]] == [("shop/web", 10)]
    assert found["still_allowed"] == {"flows": 1, "count": 6}


def test_people_get_a_table(flows: str, now: str) -> None:
    done = run("diff", "--flows", flows, "--policies", now, "--delete", "db", "--delete", "shop/db")
    assert done.returncode == 1
    assert "no policy 'db'" in done.stderr
    done = run("diff", "--flows", flows, "--policies", now, "--delete", "shop/db")
    assert "newly allowed  lab/bench  shop/db      5432/TCP" in done.stdout
    assert "0 flows newly denied, 2 newly allowed; unchanged: 8 allowed (121 times), 0 denied (0 times)" in done.stderr


@pytest.mark.parametrize(
    ("flows", "reason"),
    [
        ("[", "Input data was truncated"),
        ("{}", "Expected `array`, got `object`"),
        ([flow(WEB, DB, "70000/TCP")], "flow 0: port: 70000 is not in 0..65535"),
        ([flow(WEB, DB, "80/QUIC")], "flow 0: protocol: 'QUIC' is none of"),
        ([flow(WEB, DB, "80/TCP", "perhaps")], "flow 0: verdict: 'perhaps'"),
        ([flow(WEB, outside("10.0.0.300"), "80/TCP")], "flow 0: '10.0.0.300' does not appear"),
        ([flow(WEB, {"identity": 3}, "80/TCP")], "flow 0: an end has neither labels nor an address"),
        ([flow(WEB, {"labels": [";"]}, "80/TCP")], "flow 0: label ';'"),
    ],
)
def test_a_wrong_record_is_refused_with_the_flow_and_the_field(
    tmp_path: Path, now: str, flows: object, reason: str
) -> None:
    path = tmp_path / "flows.json"
    path.write_text(flows if isinstance(flows, str) else json.dumps(flows))
    done = run("diff", "--flows", str(path), "-f", now)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_compare_is_refused(flows: str) -> None:
    assert run("diff", "--flows", flows).returncode == 2
    assert "--policies" in run("diff", "--flows", flows, "--delete", "shop/db").stderr
    assert "--policies" in run("unused", "--flows", flows).stderr


def test_rules_without_a_hit_are_unused_and_the_others_tell_their_last_one(flows: str, now: str) -> None:
    done = run("unused", "--flows", flows, "--policies", now, "-o", "json", "--fail")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert [item["rule"] for item in found["unused"]] == ["spec.ingress[1]"]
    (used,) = found["used"]
    assert (used["flows"], used["count"], used["last_ns"]) == (1, 100, START + 5 * HOUR)


def test_a_rule_that_was_hit_long_ago_is_unused_since(flows: str, now: str) -> None:
    done = run("unused", "--flows", flows, "--policies", now, "--since", "3000-01-01")
    assert "2 of 2 rules unused" in done.stderr
    assert run("unused", "--flows", flows, "--policies", now, "--since", "yesterday").returncode == 2
