"""``cilia policy test``: expectations about flows, and the rules that they touch."""

import json
import subprocess
from typing import Any

import pytest

from laboratory.command_line import cilia
from tests.unit.policy.simulate.test_verdicts import SHOP

Json = Any


def run(cases: list[Json], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return cilia("policy", "test", "-", *arguments, text=json.dumps({**SHOP, "cases": cases}))


def case(source: str, port: str, expect: str, destination: str = "shop/db", **more: str) -> Json:
    return {"sources": [source], "destinations": [destination], "ports": [port], "expect": expect, **more}


HOLDING = [
    case("shop/web", "sql/TCP", "allowed"),
    case("shop/web", "80/TCP", "denied"),
    case("lab/*", "sql/TCP", "denied"),
    case("198.51.100.1", "80/TCP", "denied"),
    case("host", "80/TCP", "allowed"),
]


def test_cases_that_hold_pass_and_rules_that_none_touches_are_listed() -> None:
    done = run(HOLDING)
    assert done.returncode == 0, done.stdout
    assert "5 flows, 0 broken; 1 of 2 rules covered (50 %)" in done.stderr
    assert "not covered: CiliumNetworkPolicy/shop/db  spec.ingress[1]" in done.stdout


def test_too_little_coverage_fails_and_full_coverage_passes() -> None:
    assert run(HOLDING, "--coverage", "60").returncode == 1
    assert run([*HOLDING, case("192.0.2.9", "80/TCP", "allowed")], "--coverage", "100").returncode == 0


def test_a_broken_case_is_named_with_the_reason() -> None:
    done = run([case("lab/bench", "sql/TCP", "allowed", name="the lab reads orders")])
    assert done.returncode == 1
    assert "BROKEN the lab reads orders: allowed is expected" in done.stdout
    assert "wants namespace=shop; here namespace=lab" in done.stdout


def test_results_are_json_as_well() -> None:
    done = run(
        [case("lab/bench", "sql/TCP", "allowed"), case("shop/db", "sql/TCP", "denied", "shop/web")], "-o", "json"
    )
    found = json.loads(done.stdout)
    assert [item["case"] for item in found["broken"]] == ["case 1", "case 2"]
    assert found["broken"][0]["explained"]["ingress"]["because"] == "default-deny"
    assert found["broken"][1]["explained"] is None


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "no cases"),
        ([case("shop/nobody", "80/TCP", "allowed")], "'shop/nobody'"),
        ([case("moon/*", "80/TCP", "allowed")], "'moon/*': matches no pod"),
        ([case("shop/web", "80/TCP", "maybe")], "maybe"),
    ],
)
def test_cases_that_make_no_sense_are_refused(cases: list[Json], message: str) -> None:
    done = run(cases)
    assert done.returncode == 2
    assert message in done.stderr
