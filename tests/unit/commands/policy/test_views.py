"""Verbs that show policies: lists, documents, map entries, explanations and histories."""

from typing import Any

import msgspec
import pytest
import yaml

from cilia.commands.output import format_time
from cilia.contracts.agent import EndpointPolicy, EndpointReference, PolicyRule
from cilia.contracts.direction import Direction
from cilia.contracts.explanations import (
    Criterion,
    Explained,
    Mismatch,
    MismatchKind,
    NearRule,
    RulePath,
    Side,
    VerdictReason,
)
from cilia.contracts.history import Blamed, HistoryQuery, HistoryRow, Origin, PolicyHistory, PolicyRevision, PolicyStep
from cilia.contracts.ids import EndpointId, Identity, Revision
from cilia.contracts.tables import FIRST_PEER_SET, PolicyEntry, PolicyKey, policy_cookie
from tests.unit.commands.fake_cluster import FakeCluster
from tests.unit.commands.samples import ENDPOINTS, POLICIES, policy_row

DB, WEB = "CiliumNetworkPolicy/shop/db", "CiliumNetworkPolicy/shop/web"
EXPLAIN = "request.policy.explain"


def test_policies_are_listed_with_their_authors_and_states(cluster: FakeCluster) -> None:
    everywhere = policy_row("all", kind="CiliumClusterwideNetworkPolicy", namespace="")
    cluster.tables["policies"] = {**POLICIES, "CiliumClusterwideNetworkPolicy//all": everywhere}
    assert cluster.run("policy", "list").table == [
        ["KIND", "NAMESPACE", "NAME", "AUTHOR", "STATE"],
        ["CiliumClusterwideNetworkPolicy", "-", "all", "ann", "in force"],
        ["CiliumNetworkPolicy", "shop", "db", "ann", "in force"],
        ["CiliumNetworkPolicy", "shop", "web", "ann", "in shadow"],
    ]
    assert [row["name"] for row in cluster.run("policy", "list", "-o", "json").json] == ["all", "db", "web"]


@pytest.mark.parametrize("name", ["shop/db", DB])
def test_a_policy_is_shown_as_it_was_written(cluster: FakeCluster, name: str) -> None:
    cluster.tables["policies"] = POLICIES
    written = msgspec.json.decode(POLICIES[DB].document)
    assert yaml.safe_load(cluster.run("policy", "get", name).out) == written
    assert cluster.run("policy", "get", name, "-o", "json").json == written


@pytest.mark.parametrize("words", [(), ("shop/db", "--endpoint", "shop/web")], ids=["neither", "both"])
def test_get_is_about_a_policy_or_an_endpoint(cluster: FakeCluster, words: tuple[str, ...]) -> None:
    run = cluster.run("policy", "get", *words)
    assert (run.code, run.err) == (2, "cilia: policy get: name a policy, or an endpoint by --endpoint\n")


def rule(entry: PolicyEntry, **key: Any) -> PolicyRule:
    found = {"egress": False, "identity": Identity(0), "protocol": 6, "port": 80, "port_bits": 16}
    return PolicyRule(PolicyKey(**{**found, **key}), entry)


RULES = (
    rule(PolicyEntry(False, 9, policy_cookie(DB)), identity=Identity(300)),
    rule(PolicyEntry(True, 9, policy_cookie("gone/x/y")), egress=True, protocol=0, port=0, port_bits=0),
    rule(PolicyEntry(False, 9, audit=True), identity=Identity(400), port=8080, port_bits=12),
    rule(PolicyEntry(False, 9, peer_set=FIRST_PEER_SET + 0x2A), identity=Identity(500)),
    rule(PolicyEntry(False, 9), identity=Identity(FIRST_PEER_SET + 0x2A), port=443),
)


def test_the_entries_of_an_endpoint_are_named_by_policy_and_peer(cluster: FakeCluster) -> None:
    cluster.tables = {"policies": POLICIES, "endpoints": ENDPOINTS}
    cluster.answers["node.node1.policy-get"] = EndpointPolicy(EndpointId(7), Identity(300), 41, RULES)
    run = cluster.run("policy", "get", "--endpoint", "shop/web")
    assert run.err == "endpoint shop/web, identity 300, revision 41\n"
    header, *rows = run.table
    assert header == ["DIRECTION", "VERDICT", "PEER", "PROTOCOL", "PORT", "POLICY"]
    assert sorted(rows) == [
        ["egress", "deny", "any", "any", "any", "-"],
        ["ingress", "allow", "300", "6", "80", DB],
        ["ingress", "allow", "set 2a", "6", "443", "-"],
        ["ingress", "as set 2a", "500", "6", "80", "-"],
        ["ingress", "audit", "400", "6", "8080/12", "-"],
    ]
    assert cluster.messages("node.node1.policy-get") == [EndpointReference(id=EndpointId(7))]


def test_an_endpoint_without_entries_is_told_what_that_means(cluster: FakeCluster) -> None:
    cluster.tables = {"policies": POLICIES, "endpoints": ENDPOINTS}
    cluster.answers["node.node1.policy-get"] = EndpointPolicy(EndpointId(7), Identity(300), 0, ())
    run = cluster.run("policy", "get", "--endpoint", "shop/web")
    assert run.err.endswith("no entries: everything is denied\n")


ALLOWED = Side(Direction.EGRESS, "shop/web", True, VerdictReason.OPEN)
DENIED = Side(
    Direction.INGRESS,
    "shop/db",
    False,
    VerdictReason.DEFAULT_DENY,
    isolated_by=(DB,),
    nearest=(
        NearRule(
            DB,
            "spec.ingress[0]",
            (
                Mismatch(Criterion.PEER, MismatchKind.LABEL, "app=api", "app=web"),
                Mismatch(Criterion.SUBJECT, MismatchKind.NAMESPACE, "namespace=lab", "namespace=shop"),
                Mismatch(Criterion.PORT, MismatchKind.PORT_NAME, "sql/TCP", "nobody names it"),
            ),
        ),
    ),
    suggestion="kind: CiliumNetworkPolicy\nspec: {}\n",
)


def explained(egress: Side = ALLOWED, ingress: Side = DENIED) -> Explained:
    return Explained("shop/web", "shop/db", "TCP", 5432, egress.allowed and ingress.allowed, egress, ingress)


def explain(cluster: FakeCluster, answer: Explained) -> list[str]:
    cluster.answers[EXPLAIN] = answer
    return cluster.run(
        "policy", "explain", "--from", "shop/web", "--to", "shop/db", "--port", "5432/TCP"
    ).out.splitlines()


def test_a_denial_names_what_isolates_what_comes_near_and_what_would_allow_it(cluster: FakeCluster) -> None:
    assert explain(cluster, explained()) == [
        "shop/web -> shop/db 5432/TCP: DENIED",
        "egress of shop/web: allowed: no rule denies it, and no policy isolates shop/web in this direction",
        "ingress of shop/db: denied by default: nothing allows it, and these policies isolate shop/db:",
        f"    {DB}",
        "  the rules that come nearest:",
        f"    {DB}  spec.ingress[0]",
        "      peer: label: wants app=api; here app=web",
        "      subject: namespace: wants namespace=lab; here namespace=shop",
        "      port name: wants sql/TCP; here nobody names it",
        "  the smallest policy that allows it on this side:",
        "    kind: CiliumNetworkPolicy",
        "    spec: {}",
    ]


@pytest.mark.parametrize(
    ("because", "said"),
    [
        (VerdictReason.RULE, " by"),
        (VerdictReason.DEFAULT_DENY, "these policies isolate shop/db:"),
        (VerdictReason.CLOSED, "the enforcement mode (or a pod without labels yet) closes shop/db"),
        (VerdictReason.OPEN, "no policy isolates shop/db in this direction"),
        (VerdictReason.HOST, "a node always reaches its own pods"),
        (VerdictReason.MODE, "enforcement is off"),
        (VerdictReason.NOT_ENFORCED, "shop/db is no endpoint of the cluster; no policy is enforced there"),
    ],
)
def test_every_reason_for_a_verdict_is_told(cluster: FakeCluster, because: VerdictReason, said: str) -> None:
    lines = explain(cluster, explained(ingress=Side(Direction.INGRESS, "shop/db", True, because)))
    assert lines[0].endswith(": ALLOWED")
    assert lines[2].startswith("ingress of shop/db: allowed")
    assert lines[2].endswith(said)
    assert len(lines) == 3


def test_every_reason_is_in_the_list_above() -> None:
    marks = [mark for mark in test_every_reason_for_a_verdict_is_told.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {because for because, _ in marks[0].args[1]} == set(VerdictReason)


def test_a_rule_that_denies_leaves_nothing_to_suggest(cluster: FakeCluster) -> None:
    side = Side(Direction.INGRESS, "shop/db", False, VerdictReason.RULE, (RulePath(DB, "spec.ingressDeny[0]"),))
    assert explain(cluster, explained(ingress=side))[2:] == [
        "ingress of shop/db: denied by",
        f"    {DB}  spec.ingressDeny[0]",
        "  no policy can allow it while this rule stands: deny wins",
    ]


def test_an_audited_denial_is_told_with_what_would_allow_it(cluster: FakeCluster) -> None:
    side = msgspec.structs.replace(DENIED, allowed=True, audited=True)
    lines = explain(cluster, explained(ingress=side))
    assert lines[2].startswith("ingress of shop/db: denied, but let through by an audit by default")
    assert "  the smallest policy that allows it on this side:" in lines


def test_peers_are_asked_for_by_name_or_as_pods_that_would_have_labels(cluster: FakeCluster) -> None:
    cluster.answers[EXPLAIN] = explained()
    words = ("--from-labels", "app=web,k8s:tier=x", "--from-namespace", "lab", "--to", "192.0.2.7", "--port", "8/ICMP")
    assert cluster.run("policy", "explain", *words, "-o", "json").json["egress"]["because"] == "open"
    (request,) = cluster.messages(EXPLAIN)
    assert (request.source.name, request.source.labels, request.source.namespace) == (
        "",
        ("app=web", "k8s:tier=x"),
        "lab",
    )
    assert (request.destination.name, request.port) == ("192.0.2.7", "8/ICMP")


def test_policies_beside_a_running_cluster_are_refused(cluster: FakeCluster) -> None:
    words = ("--from", "a", "--to", "b", "--port", "80/TCP", "--policies", "new.yaml")
    run = cluster.run("policy", "explain", *words)
    assert (run.code, run.err) == (2, "cilia: --policies: belongs to a described cluster: name one by -f\n")


@pytest.mark.parametrize(
    "words",
    [("--from", "a", "--to", "b"), ("--from", "a", "--port", "80/TCP"), ("--from", "a", "--from-labels", "x=y")],
    ids=" ".join,
)
def test_a_flow_is_asked_for_as_a_whole(cluster: FakeCluster, words: tuple[str, ...]) -> None:
    assert cluster.run("policy", "explain", *words).code == 2
    assert cluster.sessions == 0


NOW = 1_700_000_000_000_000_000


def row(revision: int, cause: str, *keys: str, author: str = "ann") -> HistoryRow:
    steps = tuple(PolicyStep(key, '{"a":1}', '{"a":2}') for key in keys)
    return HistoryRow(Revision(revision), PolicyRevision(author, NOW, cause, steps))


HISTORY = PolicyHistory((row(43, "rollback to 41", DB, WEB), row(42, "apply", DB, author="")), Revision(41))


def test_revisions_are_listed_without_their_documents(cluster: FakeCluster) -> None:
    cluster.answers["request.policy.history"] = HISTORY
    assert cluster.run("policy", "history", "--limit", "5", "--policy", DB).table == [
        ["REVISION", "TIME", "AUTHOR", "CAUSE", "POLICIES"],
        ["43", format_time(NOW), "ann", "rollback to 41", f"{DB} and 1 more"],
        ["42", format_time(NOW), "-", "apply", DB],
    ]
    assert cluster.messages("request.policy.history") == [HistoryQuery(DB, Revision(0), 5, brief=True)]


def test_one_revision_is_shown_with_its_diff(cluster: FakeCluster) -> None:
    cluster.answers["request.policy.history"] = PolicyHistory(HISTORY.rows[1:], Revision(41))
    run = cluster.run("policy", "history", "42")
    assert run.out == (
        f"revision 42, {format_time(NOW)}, unknown: apply\n--- {DB}\n+++ {DB}\n@@ -1 +1 @@\n-a: 1\n+a: 2\n"
    )
    assert cluster.messages("request.policy.history") == [HistoryQuery("", Revision(42), 20, brief=False)]


def test_a_program_gets_the_documents_of_all_revisions(cluster: FakeCluster) -> None:
    cluster.answers["request.policy.history"] = HISTORY
    found = cluster.run("policy", "history", "-o", "json").json
    assert found["rows"][0]["change"]["steps"][1] == {"key": WEB, "before": '{"a":1}', "after": '{"a":2}'}
    assert cluster.messages("request.policy.history")[0].brief is False


def test_no_history_says_so(cluster: FakeCluster) -> None:
    cluster.answers["request.policy.history"] = PolicyHistory((), Revision(0))
    assert cluster.run("policy", "history").err == "no revisions\n"


def test_the_revisions_behind_the_rules_of_a_flow_are_shown(cluster: FakeCluster) -> None:
    origins = (Origin(DB, "spec.ingress[0]", row(42, "apply", DB)), Origin(WEB, "", None))
    cluster.answers["request.policy.blame"] = Blamed(explained(), origins)
    run = cluster.run("policy", "blame", "shop/web", "shop/db", "5432/TCP")
    assert run.table == [
        ["shop/web -> shop/db 5432/TCP: DENIED"],
        ["POLICY", "RULE", "REVISION", "TIME", "AUTHOR", "CAUSE"],
        [DB, "spec.ingress[0]", "42", format_time(NOW), "ann", "apply"],
        [WEB, "(isolates)", "before the history", "-", "-", "-"],
    ]
    (request,) = cluster.messages("request.policy.blame")
    assert (request.source.name, request.destination.name, request.port) == ("shop/web", "shop/db", "5432/TCP")


def test_a_flow_that_no_policy_decides_has_nobody_to_blame(cluster: FakeCluster) -> None:
    cluster.answers["request.policy.blame"] = Blamed(explained(ingress=ALLOWED), ())
    assert cluster.run("policy", "blame", "a", "b", "80/TCP").err == "no policy has a say in it\n"
