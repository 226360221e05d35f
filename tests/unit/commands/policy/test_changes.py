"""Verbs that change policies: their requests, what they print, and how they wait."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.policies import ChangeAction, NodeForecast, PoliciesChanged, PolicyChange
from cilia.contracts.realisation import NodeRealised, Realised
from cilia.policy.engine.options import Mode
from cilia.policy.language.enforcement import KEY, Enforcement
from tests.unit.commands.fake_cluster import UNAVAILABLE, FakeCluster
from tests.unit.commands.samples import NODE1, NODE2, POLICIES, changed, policy_row

DB, WEB = "CiliumNetworkPolicy/shop/db", "CiliumNetworkPolicy/shop/web"
APPLY, WAIT = "request.policy.apply", "request.policy.wait"
TEXT = "kind: CiliumNetworkPolicy\n"


def realised(*stragglers: NodeName, revision: int = 42, complete: bool | None = None) -> Realised:
    """Return how far two nodes are."""
    nodes = tuple(NodeRealised(node, 2, 3.0) for node in (NODE1, NODE2) if node not in stragglers)
    return Realised(Revision(revision), not stragglers if complete is None else complete, nodes, stragglers, 1.5)


def test_policies_are_applied_as_they_were_given(cluster: FakeCluster) -> None:
    cluster.answers[APPLY] = changed((DB, ChangeAction.CREATED), (WEB, ChangeAction.UNCHANGED))
    run = cluster.run("policy", "apply", "-f", "-", "-n", "lab", text=TEXT)
    assert (run.code, run.out, run.err) == (0, f"created   {DB}\nunchanged {WEB}\n", "revision 42\n")
    (request,) = cluster.messages(APPLY)
    assert (request.text, request.source, request.namespace, request.author) == (TEXT, "-", "lab", "ann")
    assert (request.dry_run, request.allow_unenforced, request.shadow) == (False, False, False)


@pytest.mark.parametrize("option", ["dry-run", "allow-unenforced", "shadow"])
def test_an_option_of_apply_is_one_of_the_request(cluster: FakeCluster, option: str) -> None:
    cluster.answers[APPLY] = changed((DB, ChangeAction.CHANGED))
    assert cluster.run("policy", "apply", "-f", "-", f"--{option}", text=TEXT).code == 0
    (request,) = cluster.messages(APPLY)
    names = ("dry_run", "allow_unenforced", "shadow")
    assert [name for name in names if getattr(request, name)] == [option.replace("-", "_")]


def test_a_change_may_take_a_minute_and_is_announced_after_a_second(cluster: FakeCluster) -> None:
    cluster.answers[APPLY] = changed((DB, ChangeAction.CREATED))
    cluster.latency_seconds = 59
    run = cluster.run("policy", "apply", "-f", "-", text=TEXT)
    assert run.err == "waiting for the policy service\nrevision 42\n"
    assert cluster.requests[0].timeout == 60


BEFORE, AFTER = '{"kind":"N","spec":{"a":1}}', '{"kind":"N","spec":{"a":2}}'


@pytest.mark.parametrize(
    ("action", "before", "after", "diff"),
    [
        (
            ChangeAction.CHANGED,
            BEFORE,
            AFTER,
            f"--- {DB}\n+++ {DB}\n@@ -1,3 +1,3 @@\n kind: N\n spec:\n-  a: 1\n+  a: 2\n",
        ),
        (ChangeAction.CREATED, "", AFTER, f"--- /dev/null\n+++ {DB}\n@@ -0,0 +1,3 @@\n+kind: N\n+spec:\n+  a: 2\n"),
        (ChangeAction.DELETED, BEFORE, "", f"--- {DB}\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-kind: N\n-spec:\n-  a: 1\n"),
        (ChangeAction.UNCHANGED, AFTER, AFTER, ""),
    ],
    ids=[
        each.value
        for each in (ChangeAction.CHANGED, ChangeAction.CREATED, ChangeAction.DELETED, ChangeAction.UNCHANGED)
    ],
)
def test_a_dry_run_shows_what_would_change(
    cluster: FakeCluster, action: ChangeAction, before: str, after: str, diff: str
) -> None:
    cluster.answers[APPLY] = PoliciesChanged(Revision(41), (PolicyChange(DB, action, before, after),))
    run = cluster.run("policy", "apply", "-f", "-", "--dry-run", text=TEXT)
    assert run.out == f"{action:10}{DB}\n{diff}"
    assert run.err == "dry run: nothing was stored\n"


def test_a_dry_run_says_how_full_policy_maps_become(cluster: FakeCluster) -> None:
    nodes = tuple(NodeForecast(NodeName(f"node{number}"), 1000, 1500 + number, 60_000) for number in range(7))
    cluster.answers[APPLY] = PoliciesChanged(Revision(41), (PolicyChange(DB, ChangeAction.CHANGED),), nodes)
    run = cluster.run("policy", "apply", "-f", "-", "--dry-run", text=TEXT)
    lines = run.err.splitlines()
    assert lines[0] == "node0: 1,000 entries, 1,500 while it changes, of 60,000 (2.5 %)"
    assert lines[5:] == ["and 2 nodes that it fills less", "dry run: nothing was stored"]


def test_what_is_not_enforced_yet_is_named_with_its_effect(cluster: FakeCluster) -> None:
    change = PolicyChange(DB, ChangeAction.CREATED, unenforced=("spec.egress[0].toPorts[0].rules",))
    cluster.answers[APPLY] = PoliciesChanged(Revision(41), (change,))
    run = cluster.run("policy", "apply", "-f", "-", "--allow-unenforced", text=TEXT)
    assert f"{DB}: spec.egress[0].toPorts[0].rules is not enforced yet: spec.egress[0] allows nobody\n" in run.err


@pytest.mark.parametrize("wait", [(), ("--wait",)], ids=["", "--wait"])
def test_a_program_gets_the_plan_of_a_dry_run_though_it_would_wait(cluster: FakeCluster, wait: tuple[str, ...]) -> None:
    cluster.answers[APPLY] = changed((DB, ChangeAction.CHANGED))
    run = cluster.run("policy", "apply", "-f", "-", "--dry-run", "-o", "json", *wait, text=TEXT)
    assert run.json["changes"][0]["action"] == "changed"
    assert cluster.messages(WAIT) == []


def test_a_change_that_is_in_force_everywhere_is_told_with_its_times(cluster: FakeCluster) -> None:
    cluster.answers |= {APPLY: changed((DB, ChangeAction.CREATED)), WAIT: realised()}
    run = cluster.run("policy", "apply", "-f", "-", "--wait", text=TEXT)
    assert run.code == 0
    assert run.err.splitlines() == [
        "revision 42",
        "revision 42 is in force for 4 endpoints on 2 nodes: median 3.0 ms, 99th percentile 3.0 ms, "
        "slowest 3.0 ms (node1), of which 1.5 ms to store it",
    ]
    assert [request.revision for request in cluster.messages(WAIT)] == [42]


def test_a_program_that_waits_gets_the_realisation_alone(cluster: FakeCluster) -> None:
    cluster.answers |= {APPLY: changed((DB, ChangeAction.CREATED)), WAIT: realised()}
    run = cluster.run("policy", "apply", "-f", "-", "--wait", "-o", "json", text=TEXT)
    assert run.json["complete"] is True
    assert [node["node"] for node in run.json["nodes"]] == ["node1", "node2"]
    assert run.err == ""


def test_nodes_that_are_missing_are_named_again_and_again_and_the_last_answer_counts(cluster: FakeCluster) -> None:
    cluster.answers[WAIT] = [realised(NODE1, NODE2), realised(NODE2), realised()]
    run = cluster.run("policy", "wait", "42")
    assert run.code == 0
    assert run.err.splitlines()[:2] == ["waiting for node1, node2", "waiting for node2"]
    assert [request.timeout_seconds for request in cluster.messages(WAIT)] == [1.0, 1.0, 1.0]


def test_a_wait_that_runs_out_exits_with_3_and_names_the_nodes(cluster: FakeCluster) -> None:
    cluster.latency_seconds = 1.0
    cluster.answers[WAIT] = realised(NODE2)
    run = cluster.run("policy", "wait", "42", "--timeout", "2.5")
    assert run.code == 3
    assert run.err.splitlines() == [*["waiting for node2"] * 2, "revision 42 is NOT in force yet on node2"]
    assert [request.timeout_seconds for request in cluster.messages(WAIT)] == [1.0, 1.0, 0.5]


def test_a_revision_that_the_service_does_not_know_yet_is_not_in_force(cluster: FakeCluster) -> None:
    cluster.latency_seconds = 1.0
    cluster.answers[WAIT] = Realised(Revision(99), complete=False)
    run = cluster.run("policy", "wait", "99", "--timeout", "2")
    assert run.code == 3
    assert run.err.splitlines() == [
        "waiting for the policy service to know the revision",
        "revision 99 is NOT in force yet",
    ]


def test_a_revision_that_concerns_nobody_is_in_force(cluster: FakeCluster) -> None:
    cluster.answers[WAIT] = Realised(Revision(7), complete=True)
    run = cluster.run("policy", "wait")
    assert (run.code, run.err) == (0, "revision 7 concerns no endpoint\n")
    assert [request.revision for request in cluster.messages(WAIT)] == [0], "the newest"


def test_policies_are_deleted_by_any_name_that_is_theirs_alone(cluster: FakeCluster) -> None:
    cluster.tables["policies"] = POLICIES
    cluster.answers["request.policy.delete"] = changed((DB, ChangeAction.DELETED))
    assert cluster.run("policy", "delete", "shop/db", WEB).out == f"deleted   {DB}\n"
    (request,) = cluster.messages("request.policy.delete")
    assert (request.keys, request.author) == ((DB, WEB), "ann")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("shop/cart", 1, f"no policy 'shop/cart'; there are: {DB}, {WEB}"),
        ("db", 1, "no policy 'db'; there are:"),
        ("shop/twice", 2, "which 'shop/twice'? There are: CiliumNetworkPolicy/shop/twice, NetworkPolicy/shop/twice"),
    ],
)
@pytest.mark.parametrize("verb", ["delete", "get", "promote"])
def test_a_name_that_is_none_or_several_changes_nothing(
    cluster: FakeCluster, verb: str, name: str, code: int, said: str
) -> None:
    twice = {f"{kind}/shop/twice": policy_row("twice", kind=kind) for kind in ("NetworkPolicy", "CiliumNetworkPolicy")}
    cluster.tables["policies"] = {**POLICIES, **twice} if code == 2 else POLICIES
    run = cluster.run("policy", verb, name)
    assert run.code == code
    assert said in run.err
    assert cluster.requests == []


def test_a_rollback_names_its_revision_and_author(cluster: FakeCluster) -> None:
    cluster.answers |= {"request.policy.rollback": changed((DB, ChangeAction.CHANGED)), WAIT: realised()}
    assert cluster.run("policy", "rollback", "41", "--wait").code == 0
    assert cluster.run("policy", "rollback", "41", "--dry-run").err == "dry run: nothing was stored\n"
    first, dry = cluster.messages("request.policy.rollback")
    assert (first.revision, first.author, first.dry_run, dry.dry_run) == (41, "ann", False, True)
    assert len(cluster.messages(WAIT)) == 1


def stored_enforcement(**spec: Any) -> dict[str, Any]:
    """Return the policies with an enforcement among them, as a change of it stores it."""
    enforcement = Enforcement(Mode(spec.get("mode", "default")), bool(spec.get("audit")))
    kind, _, name = KEY.partition("/")
    row = policy_row(name.rpartition("/")[2], kind=kind, namespace="")
    return {**POLICIES, KEY: msgspec.structs.replace(row, document=enforcement.document)}


def test_the_mode_is_shown_for_people_and_programs(cluster: FakeCluster) -> None:
    assert cluster.run("policy", "mode").out == "mode default, audit off\n"
    cluster.tables["policies"] = stored_enforcement(mode="always", audit=True)
    assert cluster.run("policy", "mode").out == "mode always, audit on\n"
    assert cluster.run("policy", "mode", "-o", "json").json == {"mode": "always", "audit": True}
    assert cluster.requests == []


def test_a_mode_that_is_set_keeps_the_audit_and_an_audit_the_mode(cluster: FakeCluster) -> None:
    cluster.tables["policies"] = stored_enforcement(mode="always", audit=True)
    cluster.answers[APPLY] = changed(("e", ChangeAction.CHANGED))
    cluster.run("policy", "mode", "never")
    cluster.run("policy", "audit", "off")
    specs = [msgspec.json.decode(request.text)["spec"] for request in cluster.messages(APPLY)]
    assert specs == [{"mode": "never", "audit": True}, {"mode": "always", "audit": False}]


@pytest.mark.parametrize(("state", "value"), [("on", "true"), ("off", "false")])
def test_an_audit_of_some_policies_is_an_annotation_of_each(cluster: FakeCluster, state: str, value: str) -> None:
    cluster.tables["policies"] = POLICIES
    cluster.answers[APPLY] = changed((DB, ChangeAction.CHANGED), (WEB, ChangeAction.CHANGED))
    cluster.run("policy", "audit", state, "shop/db", "shop/web")
    (request,) = cluster.messages(APPLY)
    documents = [msgspec.json.decode(text) for text in request.text.split("\n---\n")]
    assert [each["metadata"]["annotations"]["cilia.io/audit"] for each in documents] == [value, value]
    assert documents[1]["metadata"]["annotations"]["cilia.io/shadow"] == "true", "other annotations stay"


def test_a_shadow_is_promoted_by_its_document_without_the_annotation(cluster: FakeCluster) -> None:
    cluster.tables["policies"] = POLICIES
    cluster.answers[APPLY] = changed((WEB, ChangeAction.CHANGED))
    assert cluster.run("policy", "promote", "shop/web").code == 0
    (request,) = cluster.messages(APPLY)
    assert "cilia.io/shadow" not in request.text
    assert (request.source, request.namespace) == (f"promote {WEB}", "shop")


def test_a_policy_in_force_can_not_be_promoted(cluster: FakeCluster) -> None:
    cluster.tables["policies"] = POLICIES
    run = cluster.run("policy", "promote", "shop/db")
    assert (run.code, run.err) == (2, f"cilia: {DB}: is in force; only a policy in shadow can be promoted\n")
    assert cluster.requests == []


def test_a_wait_for_an_answer_that_does_not_come_is_no_success(cluster: FakeCluster) -> None:
    cluster.answers |= {APPLY: changed((DB, ChangeAction.CREATED)), WAIT: UNAVAILABLE}
    run = cluster.run("policy", "apply", "-f", "-", "--wait", text=TEXT)
    assert run.code == 3
    assert run.err.splitlines()[0] == "revision 42", "what was stored is said"


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return directory


def test_files_and_directories_become_one_text_in_their_order(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.answers[APPLY] = changed((DB, ChangeAction.CREATED))
    write(tmp_path, b_yaml="b: 1", a_yml="a: 1", c_json="{}", d_txt="no", e_md="no")
    single = tmp_path / "single"
    single.write_text("single: 1")
    cluster.run("policy", "apply", "-f", str(single), "-f", str(tmp_path))
    (request,) = cluster.messages(APPLY)
    assert request.text.split("\n---\n") == ["single: 1", "a: 1", "b: 1", "{}"]
    assert request.source == f"{single}, {tmp_path}"


def test_one_file_is_named_as_the_source_though_its_directory_was_given(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.answers[APPLY] = changed((DB, ChangeAction.CREATED))
    cluster.run("policy", "apply", "-f", str(write(tmp_path, only_yaml="a: 1")))
    assert cluster.messages(APPLY)[0].source == str(tmp_path / "only.yaml")


def test_a_file_that_can_not_be_read_is_named_and_nothing_is_asked(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for path, reason in (
        (tmp_path / "nowhere.yaml", "No such file or directory"),
        (tmp_path / "binary.yaml", "can't decode byte"),
        (empty, "no .yaml, .yml, .json file in this directory"),
        (tmp_path / "loop.yaml", "symbolic links"),
    ):
        run = cluster.run("policy", "apply", "-f", str(path))
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith(f"cilia: {path}: ")
        assert reason in run.err
    assert cluster.requests == []
