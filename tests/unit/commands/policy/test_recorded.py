"""Verbs that judge recorded flows: diff, unused, generate and shadow, on a cluster and on files."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from cilia.commands.output import format_time
from cilia.commands.policy.diff import FailOn
from cilia.contracts.flows import (
    FlowPage,
    ListFlows,
    PolicyVerdict,
    RecordedFlow,
    RecordedPeer,
    ShadowVerdict,
    ShadowVerdicts,
)
from cilia.contracts.ids import Identity
from cilia.contracts.labels import workload
from cilia.contracts.tables import IdentityRow, PolicyObject
from tests.unit.commands.fake_cluster import FakeCluster
from tests.unit.commands.samples import ENDPOINTS, policy_row

START, HOUR = 1_700_000_000_000_000_000, 3_600_000_000_000
DB, NEW = "CiliumNetworkPolicy/shop/db", "CiliumNetworkPolicy/shop/new"


def peer(namespace: str, app: str) -> RecordedPeer:
    labels = tuple(sorted(map(str, workload(namespace, {"app": app}))))
    return RecordedPeer(labels, f"{namespace}/{app}", identity=1000)


WEB, BENCH, SERVER = peer("shop", "web"), peer("lab", "bench"), peer("shop", "db")


def flow(source: RecordedPeer, destination: RecordedPeer, port: int = 5432, **more: Any) -> RecordedFlow:
    found: dict[str, Any] = {"verdict": PolicyVerdict.ALLOWED, "count": 3, "first_ns": START, "last_ns": START + HOUR}
    return RecordedFlow(source, destination, "TCP", port, **{**found, **more})


FLOWS = (flow(WEB, SERVER, count=100), flow(BENCH, SERVER), flow(SERVER, WEB, 80))


def row(name: str, *rules: Any, app: str = "db", shadow: bool = False) -> PolicyObject:
    """Return a stored policy with rules of ingress."""
    annotations = {"cilia.io/shadow": "true"} if shadow else None
    made = policy_row(name, annotations=annotations)
    body = json.loads(made.document)
    body["spec"] = {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": list(rules)}
    return msgspec.structs.replace(made, document=json.dumps(body))


def allow(app: str, port: str = "5432", namespace: str = "shop") -> Any:
    """Return a rule of ingress."""
    labels = {"app": app, "io.kubernetes.pod.namespace": namespace}
    return {
        "fromEndpoints": [{"matchLabels": labels}],
        "toPorts": [{"ports": [{"port": port, "protocol": "TCP"}]}],
    }


IN_FORCE = {DB: row("db", allow("web"), allow("bench", namespace="lab"), allow("nobody", "9999"))}


@pytest.fixture
def record(cluster: FakeCluster) -> FakeCluster:
    """A cluster with three recorded flows and one policy that allows them."""
    cluster.tables |= {
        "policies": IN_FORCE,
        "endpoints": ENDPOINTS,
        "identities": {Identity(400): IdentityRow(SERVER.labels), Identity(300): IdentityRow(WEB.labels)},
    }

    def page(request: ListFlows) -> FlowPage:
        return FlowPage(tuple(each for each in FLOWS if each.last_ns >= request.since_ns), since_ns=START)

    cluster.answers["request.recorder.flows"] = page
    return cluster


@pytest.fixture
def stricter(tmp_path: Path) -> str:
    path = tmp_path / "new.json"
    path.write_text(row("db", allow("web"), allow("nobody", "9999")).document)
    return str(path)


def test_flows_that_a_change_denies_are_shown_with_their_policy(record: FakeCluster, stricter: str) -> None:
    run = record.run("policy", "diff", "-f", stricter)
    assert run.code == 1
    header, *rows = run.table
    assert header == ["VERDICT", "SOURCE", "DESTINATION", "PORT", "COUNT", "FIRST SEEN", "LAST SEEN", "BECAUSE OF"]
    assert rows == [
        [
            "newly denied",
            "lab/bench",
            "shop/db",
            "5432/TCP",
            "3",
            format_time(START),
            format_time(START + HOUR),
            f"{DB} (default deny)",
        ]
    ]
    assert run.err.splitlines()[-1] == (
        "1 flows newly denied, 0 newly allowed; unchanged: 2 allowed (103 times), 0 denied (0 times)"
    )


@pytest.mark.parametrize(("fail_on", "code"), [("denied", 1), ("any", 1), ("allowed", 0), ("never", 0)])
def test_the_exit_code_is_about_the_changes_that_are_asked_for(
    record: FakeCluster, stricter: str, fail_on: str, code: int
) -> None:
    assert record.run("policy", "diff", "-f", stricter, "--fail-on", fail_on).code == code


def test_every_choice_of_fail_on_is_about_its_own_changes(record: FakeCluster) -> None:
    from cilia.policy.observed.comparison import FlowChange, PolicyDiff, Tally

    change = FlowChange("a", "b", (), (), "TCP", 80, "allowed", (), (), 1, 0, 0)
    none = Tally(0, 0)
    diffs = [PolicyDiff(denied, allowed, none, none) for denied in ((), (change,)) for allowed in ((), (change,))]
    assert {each: [each.is_met(found) for found in diffs] for each in FailOn} == {
        FailOn.DENIED: [False, False, True, True],
        FailOn.ALLOWED: [False, True, False, True],
        FailOn.ANY: [False, True, True, True],
        FailOn.NEVER: [False, False, False, False],
    }


def test_a_policy_that_goes_opens_what_it_isolated(record: FakeCluster) -> None:
    record.tables["policies"] = {DB: row("db", allow("web"))}
    run = record.run("policy", "diff", "--delete", "shop/db", "-o", "json")
    assert [(change["source"], change["recorded"]) for change in run.json["newly_allowed"]] == [
        ("lab/bench", "allowed")
    ]
    assert run.code == 0


def test_a_change_without_effect_says_so(record: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "same.json").write_text(IN_FORCE[DB].document)
    run = record.run("policy", "diff", "-f", str(tmp_path / "same.json"))
    assert (run.code, run.out) == (0, "")
    assert "no recorded flow changes its verdict" in run.err


def test_a_diff_without_a_change_is_wrong_usage(record: FakeCluster) -> None:
    run = record.run("policy", "diff")
    assert run.code == 2
    assert run.err.endswith("cilia: policy diff: name new policies by -f, or policies to remove by --delete\n")


def test_only_flows_since_a_time_are_judged(record: FakeCluster, stricter: str) -> None:
    record.monkeypatch.setattr("time.time_ns", lambda: START + 10 * HOUR)
    assert record.run("policy", "diff", "-f", stricter, "--since", "1h").code == 0
    assert record.messages("request.recorder.flows")[0].since_ns == START + 9 * HOUR


def test_a_wrong_policy_is_named_with_its_field(record: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text(IN_FORCE[DB].document.replace("toPorts", "toPort"))
    run = record.run("policy", "diff", "-f", str(tmp_path / "wrong.json"))
    assert run.code == 2
    assert "toPort" in run.err
    assert "wrong.json" in run.err


def test_rules_are_listed_by_their_last_hit_those_without_one_first(record: FakeCluster) -> None:
    run = record.run("policy", "unused")
    assert run.table == [
        ["POLICY", "RULE", "FLOWS", "COUNT", "LAST HIT"],
        [DB, "spec.ingress[2]", "0", "0", "-"],
        [DB, "spec.ingress[0]", "1", "100", format_time(START + HOUR)],
        [DB, "spec.ingress[1]", "1", "3", format_time(START + HOUR)],
    ]
    assert run.err.endswith("1 of 3 rules unused\n")
    assert run.code == 0
    assert record.run("policy", "unused", "--fail").code == 1
    found = record.run("policy", "unused", "-o", "json").json
    assert ([use["rule"] for use in found["unused"]], len(found["used"])) == (["spec.ingress[2]"], 2)


def test_a_cluster_without_unused_rules_does_not_fail(record: FakeCluster) -> None:
    record.tables["policies"] = {DB: row("db", allow("web"))}
    assert record.run("policy", "unused", "--fail").code == 0
    record.tables["policies"] = {}
    assert "no rules" in record.run("policy", "unused", "--fail").err


def test_policies_are_generated_that_allow_what_was_recorded(record: FakeCluster) -> None:
    run = record.run("policy", "generate", "--from-flows", "--workload", "shop/db")
    assert run.code == 0
    (made,) = list(yaml.safe_load_all(run.out))
    assert made["spec"]["endpointSelector"]["matchLabels"]["app"] == "db"
    assert "proven by the engine: " in run.err


def test_nothing_to_generate_from_is_said(record: FakeCluster) -> None:
    run = record.run("policy", "generate", "--from-flows", "--workload", "shop/cart")
    assert run.code == 2
    assert run.err.endswith("cilia: policy generate: no recorded allowed flow of such a workload\n")


def test_labels_that_are_none_are_named(record: FakeCluster) -> None:
    run = record.run("policy", "generate", "--from-flows", "--labels", "app=a,app=b")
    assert run.code == 2
    assert "cilia: --labels: label " in run.err
    assert "the key already has the value" in run.err


def shadowed() -> dict[str, PolicyObject]:
    return {
        DB: row("db", allow("web"), allow("bench", namespace="lab")),
        NEW: row("new", allow("web"), app="db", shadow=True),
    }


def test_policies_in_shadow_are_listed_with_what_they_would_change(record: FakeCluster) -> None:
    closing = row("new", allow("gate", "80"), app="web", shadow=True)
    record.tables["policies"] = {**shadowed(), "CiliumNetworkPolicy/shop/other": closing}
    rows = record.run("policy", "shadow").table
    assert rows == [
        ["POLICY IN SHADOW", "WOULD DENY", "TIMES", "WOULD ALLOW", "TIMES"],
        [NEW, "0", "0", "0", "0"],
        ["CiliumNetworkPolicy/shop/other", "1", "3", "0", "0"],
    ]
    one = record.run("policy", "shadow", "shop/other")
    assert [cells[1:4] for cells in one.table[1:]] == [["shop/db", "shop/web", "80/TCP"]]
    assert set(record.run("policy", "shadow", "-o", "json").json) == {NEW, "CiliumNetworkPolicy/shop/other"}


def test_a_cluster_without_shadows_says_so(record: FakeCluster) -> None:
    run = record.run("policy", "shadow")
    assert (run.code, run.out) == (0, "")
    assert run.err.endswith("no policy is in shadow\n")


def test_a_policy_in_force_is_no_shadow(record: FakeCluster) -> None:
    record.tables["policies"] = shadowed()
    run = record.run("policy", "shadow", "shop/db")
    assert (run.code, run.err.splitlines()[-1]) == (1, f"cilia: no policy 'shop/db'; there are: {NEW}")


VERDICTS = ShadowVerdicts(
    "node1",
    (
        ShadowVerdict(FLOWS[0], True, True, (NEW,)),
        ShadowVerdict(FLOWS[1], True, False, (NEW, DB)),
        ShadowVerdict(FLOWS[2], False, True, (DB,)),
    ),
)


def test_verdicts_of_shadows_are_followed_as_they_are_published(record: FakeCluster) -> None:
    record.published["cilia.v1.shop.shadow"] = [VERDICTS]
    run = record.run("policy", "shadow", "--follow", "--count", "3")
    assert run.out.splitlines() == [
        f"shop/web -> shop/db 5432/TCP ALLOWED, as before, 100 times: {NEW}",
        f"lab/bench -> shop/db 5432/TCP ALLOWED, would be DENIED, 3 times: {NEW}, {DB}",
        f"shop/db -> shop/web 80/TCP DENIED, would be ALLOWED, 3 times: {DB}",
    ]
    assert run.err == "listening; ^C ends\n"


def test_one_shadow_is_followed_alone(record: FakeCluster) -> None:
    record.tables["policies"] = shadowed()
    record.published["cilia.v1.shop.shadow"] = [VERDICTS]
    run = record.run("policy", "shadow", "shop/new", "--follow", "--count", "2", "-o", "json")
    assert [msgspec.json.decode(line, type=ShadowVerdict) for line in run.out.splitlines()] == list(
        VERDICTS.verdicts[:2]
    )


def test_a_file_is_not_followed(record: FakeCluster) -> None:
    run = record.run("policy", "shadow", "--follow", "--flows", "flows.json")
    assert (run.code, run.err) == (2, "cilia: --follow: follows a running cluster, not a file\n")
    assert record.sessions == 0


@pytest.fixture
def flows_file(tmp_path: Path) -> str:
    path = tmp_path / "flows.json"
    path.write_bytes(msgspec.json.encode(FLOWS))
    return str(path)


def test_files_stand_for_a_cluster(record: FakeCluster, flows_file: str, stricter: str, tmp_path: Path) -> None:
    now = tmp_path / "now.json"
    now.write_text(IN_FORCE[DB].document)
    run = record.run("policy", "diff", "--flows", flows_file, "--policies", str(now), "-f", stricter, "-o", "json")
    assert (run.code, [change["source"] for change in run.json["newly_denied"]]) == (1, ["lab/bench"])
    assert record.run("policy", "unused", "--flows", flows_file, "--policies", str(now)).code == 0
    assert record.run("policy", "generate", "--from-flows", "--flows", flows_file, "--workload", "shop/db").code == 0
    assert record.sessions == 0


def test_without_the_policies_in_force_the_recorded_verdicts_stand_for_them(
    record: FakeCluster, flows_file: str, stricter: str
) -> None:
    assert record.run("policy", "diff", "--flows", flows_file, "-f", stricter).code == 1
    for words, said in (
        (("diff", "--delete", "shop/db"), "--delete: with --flows, name the policies in force by --policies"),
        (("unused",), "--flows: name the policies in force by --policies"),
    ):
        run = record.run("policy", *words, "--flows", flows_file)
        assert (run.code, run.err) == (2, f"cilia: {said}\n")


def test_a_file_may_come_by_standard_input(record: FakeCluster, flows_file: str) -> None:
    text = Path(flows_file).read_text()
    run = record.run("policy", "generate", "--from-flows", "--flows", "-", "--workload", "shop/db", text=text)
    assert run.code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "Input data was truncated"),
        ("{}", "Expected `array`"),
        ('[{"source": {}}]', "missing required field `destination`"),
    ],
)
def test_a_file_that_is_no_record_is_named(record: FakeCluster, text: str, said: str) -> None:
    run = record.run("policy", "generate", "--from-flows", "--flows", "-", text=text)
    assert run.code == 2
    assert run.err.startswith("cilia: -: ")
    assert said in run.err
