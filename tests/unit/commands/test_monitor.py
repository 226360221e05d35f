"""``cilia monitor`` and ``flows``: flow events as they happen, and flows that were recorded."""

import re
from typing import Any

import msgspec
import pytest

from cilia.commands.output import format_time
from cilia.contracts.flow_events import Flow, FlowBatch, FlowKind, FlowVerdict
from cilia.contracts.flows import FlowPage, ListFlows, PolicyVerdict, RecordedFlow, RecordedPeer
from cilia.errors import Unavailable
from tests.unit.commands.fake_cluster import FakeCluster
from tests.unit.commands.samples import DROP, ENDPOINTS, IDENTITIES, NODE1, NODE2

SUBJECT = "cilia.v1.shop.flow.*"
PASS = msgspec.structs.replace(
    DROP, kind=FlowKind.VERDICT, verdict=FlowVerdict.FORWARDED, reason="", policy="NetworkPolicy/shop/db"
)
AUDITED = msgspec.structs.replace(PASS, verdict=FlowVerdict.AUDIT)
STRANGER = Flow(0, NODE2, FlowKind.DROP, FlowVerdict.DROPPED, "icmpv6", "fd00:66::9", "fd00:10::2")


def lines(out: str) -> list[str]:
    """Return lines without their times."""
    return [re.sub(r"^\d\d:\d\d:\d\d\.\d\d\d ", "", line) for line in out.splitlines()]


def test_flows_are_printed_as_they_come_until_there_are_enough(cluster: FakeCluster) -> None:
    cluster.published[SUBJECT] = [FlowBatch(NODE1, (PASS, DROP)), FlowBatch(NODE2, (STRANGER, DROP))]
    run = cluster.run("monitor", "--count", "3")
    assert (run.code, run.err) == (0, "listening; ^C ends\n")
    assert lines(run.out) == [
        "node1: shop/web:40000 [300] -> shop/db:5432 [400] tcp FORWARDED (ingress, NetworkPolicy/shop/db)",
        "node1: shop/web:40000 [300] -> shop/db:5432 [400] tcp DROPPED (ingress, policy-denied)",
        "node2: fd00:66::9 [0] -> fd00:10::2 [0] icmpv6 DROPPED",
    ]


def test_a_program_gets_a_line_of_json_a_flow(cluster: FakeCluster) -> None:
    cluster.published[SUBJECT] = [FlowBatch(NODE1, (PASS, DROP))]
    run = cluster.run("monitor", "--count", "2", "-o", "json")
    assert [msgspec.json.decode(line, type=Flow) for line in run.out.splitlines()] == [PASS, DROP]


def test_events_that_were_lost_are_said(cluster: FakeCluster) -> None:
    cluster.published[SUBJECT] = [FlowBatch(NODE1, (), lost=17), FlowBatch(NODE2, (DROP,))]
    assert cluster.run("monitor", "--count", "1").err == "listening; ^C ends\nnode1: 17 events lost\n"


def test_events_above_a_limit_are_said(cluster: FakeCluster) -> None:
    cluster.published[SUBJECT] = [FlowBatch(NODE1, (DROP,), limited=9)]
    said = "node1: 9 events above the limit of their pod or node\n"
    assert cluster.run("monitor", "--count", "1").err == f"listening; ^C ends\n{said}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--drops",), [DROP, STRANGER]),
        (("--audited",), [AUDITED]),
        (("--drops", "--audited"), [DROP, AUDITED, STRANGER]),
        (("--drops", "--from", "shop/web"), [DROP]),
        (("--endpoint", "shop/cart"), []),
        (("--to", "shop/db"), [PASS, DROP, AUDITED]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else None,
)
def test_filters_say_which_flows_are_printed_and_counted(
    cluster: FakeCluster, options: tuple[str, ...], expected: list[Flow]
) -> None:
    cluster.published[SUBJECT] = [FlowBatch(NODE1, (PASS, DROP, AUDITED, STRANGER))]
    run = cluster.run("monitor", "--timeout", "30", "-o", "json", *options)
    assert [msgspec.json.decode(line, type=Flow) for line in run.out.splitlines()] == expected


def test_only_the_flows_of_one_node_are_asked_for(cluster: FakeCluster) -> None:
    cluster.published = {SUBJECT: [FlowBatch(NODE1, (DROP,))], "cilia.v1.shop.flow.node2": [FlowBatch(NODE2, (PASS,))]}
    assert "FORWARDED" in cluster.run("monitor", "--node", "node2", "--count", "1").out


@pytest.mark.parametrize(("count", "code"), [((), 0), (("--count", "2"), 3), (("--count", "1"), 0)])
def test_a_time_that_runs_out_is_an_error_only_if_flows_are_missing(
    cluster: FakeCluster, count: tuple[str, ...], code: int
) -> None:
    cluster.published[SUBJECT] = [FlowBatch(NODE1, (DROP,))]
    assert cluster.run("monitor", "--timeout", "3600", *count).code == code


WEB = RecordedPeer(IDENTITIES[300].labels, "shop/web", identity=300)  # type: ignore[index]
DB = RecordedPeer(IDENTITIES[400].labels, "shop/db", identity=400)  # type: ignore[index]
OUTSIDE = RecordedPeer(("reserved:world",), address="192.0.2.9")
START = 1_700_000_000_000_000_000


def recorded(source: RecordedPeer, destination: RecordedPeer, port: int, **more: Any) -> RecordedFlow:
    found: dict[str, Any] = {"verdict": PolicyVerdict.ALLOWED, "first_ns": START, "last_ns": START + port * 10**9}
    return RecordedFlow(source, destination, "TCP", port, **{**found, **more})


FLOWS = (
    recorded(WEB, DB, 5432, count=9, policy="NetworkPolicy/shop/db"),
    recorded(OUTSIDE, WEB, 80, verdict=PolicyVerdict.DENIED),
    recorded(WEB, OUTSIDE, 443, egress=True, verdict=PolicyVerdict.AUDITED),
)


def serve_flows(cluster: FakeCluster) -> None:
    """Serve the recorded flows one a page."""

    def answer(request: ListFlows) -> FlowPage:
        at = int(request.after or 0)
        more = str(at + 1) if at + 1 < len(FLOWS) else ""
        return FlowPage(FLOWS[at : at + 1], more, since_ns=START, evicted=2)

    cluster.answers["request.recorder.flows"] = answer
    cluster.tables |= {"identities": IDENTITIES, "endpoints": ENDPOINTS}


def test_recorded_flows_are_listed_with_the_latest_first(cluster: FakeCluster) -> None:
    serve_flows(cluster)
    run = cluster.run("flows")
    rows = run.table
    assert rows[0] == ["SOURCE", "DESTINATION", "PORT", "VERDICT", "SIDE", "POLICY", "COUNT", "FIRST SEEN", "LAST SEEN"]
    assert [row[:7] for row in rows[1:]] == [
        ["shop/web", "shop/db", "5432/TCP", "allowed", "ingress", "NetworkPolicy/shop/db", "9"],
        ["shop/web", "192.0.2.9", "443/TCP", "audited", "egress", "-", "1"],
        ["192.0.2.9", "shop/web", "80/TCP", "denied", "ingress", "-", "1"],
    ]
    assert rows[1][7:] == [format_time(START), format_time(START + 5432 * 10**9)]
    assert run.err == (f"3 distinct flows, recorded since {format_time(START)}; 2 had to make room, and are missing\n")


def test_all_pages_of_the_record_are_asked_for_with_the_filters_of_the_recorder(cluster: FakeCluster) -> None:
    serve_flows(cluster)
    cluster.run("flows", "--namespace", "shop", "--workload", "shop/web", "--verdict", "denied")
    requests = cluster.messages("request.recorder.flows")
    assert [request.after for request in requests] == ["", "1", "2"]
    assert {(r.namespace, r.workload, r.verdict, r.limit) for r in requests} == {
        ("shop", "shop/web", PolicyVerdict.DENIED, 1000)
    }


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        (("--from", "shop/web"), {5432, 443}),
        (("--from", "192.0.2.9"), {80}),
        (("--to", "shop/db"), {5432}),
        (("--port", "443"), {443}),
        (("--port", "443/TCP"), {443}),
        (("--port", "443/UDP"), set()),
        (("--from", "shop/web", "--to", "192.0.2.9"), {443}),
        (("--to", "shop/nobody"), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_flows_are_chosen_by_source_destination_and_port(
    cluster: FakeCluster, options: tuple[str, ...], ports: set[int]
) -> None:
    serve_flows(cluster)
    assert {flow["port"] for flow in cluster.run("flows", "-o", "json", *options).json} == ports


def test_json_of_flows_has_all_addresses_of_the_pods_with_the_same_labels(cluster: FakeCluster) -> None:
    serve_flows(cluster)
    (flow,) = cluster.run("flows", "-o", "json", "--to", "shop/db").json
    assert flow["source"]["prefixes"] == ["10.244.0.2/32", "fd00:10::2/128"]
    assert flow["destination"]["prefixes"] == ["10.244.0.66/32"]
    assert flow["verdict"] == "allowed"


def test_an_age_becomes_the_time_since_which_flows_are_wanted(cluster: FakeCluster) -> None:
    serve_flows(cluster)
    cluster.monkeypatch.setattr("time.time_ns", lambda: START)
    cluster.run("flows", "--since", "2h")
    assert {request.since_ns for request in cluster.messages("request.recorder.flows")} == {START - 7200 * 10**9}


def test_a_recorder_that_takes_over_is_waited_for(cluster: FakeCluster) -> None:
    away = Unavailable("recorder", "nobody serves 'flows'")
    cluster.answers["request.recorder.flows"] = [*[away] * 20, FlowPage((), since_ns=START)]
    run = cluster.run("flows")
    assert run.code == 0
    assert "waiting for the recorder" in run.err
    assert run.err.endswith(f"0 distinct flows, recorded since {format_time(START)}\nno flows\n")


def test_a_recorder_that_stays_away_is_given_up(cluster: FakeCluster) -> None:
    run = cluster.run("flows")
    assert run.code == 3
    assert 45 < len(cluster.requests) < 55, "some ten seconds of virtual time"
    assert run.err.endswith("cilia: recorder is unavailable: nobody serves 'flows'\n")
