"""A change of policy is one trace from the command line to every kernel; metrics are there to be
scraped.
"""

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cilia.contracts.agent import AgentStatus
from cilia.contracts.messages import Empty
from cilia.netns import inside
from laboratory.cluster import LocalCluster
from laboratory.layout import HUB_ADDRESS, netns_path
from laboratory.policies import Policies
from laboratory.processes import AGENT_METRICS_PORT, FIRST_HEALTH_PORT, SERVICES
from laboratory.wait import block_until

pytestmark = pytest.mark.cluster

PORT = 4318
URL = f"http://{HUB_ADDRESS}:{PORT}"
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]
"""


class Collector:
    """An OTLP/HTTP collector that keeps what it gets: (service, span name, trace id, span id,
    parent id).
    """

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, bytes, bytes, bytes]] = []
        self.metrics: set[tuple[str, str]] = set()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                for scope in resource.scope_spans:
                    self.spans += [(service, s.name, s.trace_id, s.span_id, s.parent_span_id) for s in scope.spans]
        else:
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                service = next(a.value.string_value for a in group.resource.attributes if a.key == "service.name")
                self.metrics |= {(service, metric.name) for scope in group.scope_metrics for metric in scope.metrics}


@pytest.fixture(scope="module")
def traced() -> Iterator[tuple[LocalCluster, Collector]]:
    """A cluster that reports to a collector in its hub."""
    cluster = LocalCluster.up(f"traced-{os.getpid()}", nodes=2, otlp=URL)
    collector = Collector()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    try:
        with inside(netns_path(cluster.layout.hub)):
            server = HTTPServer((str(HUB_ADDRESS), PORT), Take)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield cluster, collector
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    finally:
        cluster.down()


def test_a_policy_is_one_trace_from_apply_to_realised_on_each_agent(traced: tuple[LocalCluster, Collector]) -> None:
    cluster, collector = traced
    cluster.pod("node1", "shop", "web1", {"app": "web"})
    cluster.pod("node2", "shop", "web2", {"app": "web"})
    run = Policies(cluster).cilia("policy", "apply", "-f", "-", "--wait", "--otlp", URL, text=POLICY)
    assert run.returncode == 0, run.stderr

    def trace() -> list[tuple[str, str, bytes, bytes, bytes]]:
        root = [each for each in collector.spans if each[:2] == ("cilia-cli", "policy apply")]
        return [each for each in collector.spans if root and each[2] == root[0][2]]

    expected = [
        ("cilia-agent", "realise"),
        ("cilia-agent", "realise"),
        ("cilia-cli", "policy apply"),
        ("cilia-policy", "apply"),
    ]
    block_until(lambda: sorted(each[:2] for each in trace() if each[:2] in expected) == expected)
    ids = {each[3] for each in trace()}
    assert [each for each in trace() if each[4] and each[4] not in ids] == []


def test_a_deletion_is_one_trace_likewise(traced: tuple[LocalCluster, Collector]) -> None:
    cluster, collector = traced
    policies = Policies(cluster)
    policies.apply(POLICY)
    run = policies.cilia("policy", "delete", "shop/web", "--wait", "--otlp", URL)
    assert run.returncode == 0, run.stderr
    expected = {("cilia-cli", "policy delete"), ("cilia-policy", "delete"), ("cilia-agent", "realise")}

    def is_complete() -> bool:
        root = [each for each in collector.spans if each[:2] == ("cilia-cli", "policy delete")]
        return bool(root) and {each[:2] for each in collector.spans if each[2] == root[0][2]} >= expected

    block_until(is_complete)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("agent", "cilia_"),
        ("ipam", "cilia_"),
        ("identity", "cilia_identities"),
        ("policy", "cilia_"),
        ("recorder", "cilia_"),
    ],
)
def test_metrics_are_there_to_be_scraped(traced: tuple[LocalCluster, Collector], place: str, expected: str) -> None:
    cluster, _ = traced
    text = scrape(cluster, address_of(cluster, place))
    assert text.startswith("HTTP/1.1 200")
    names = [line.split("{")[0].split(" ")[0] for line in text.splitlines() if line.startswith(expected)]
    assert names
    assert all(f"# HELP {name}" in text for name in names if not name.endswith(("_total", "_created"))), names


@pytest.mark.parametrize("place", ["agent", "ipam", "identity", "policy", "recorder"])
def test_every_metric_is_documented_and_every_documented_one_exists(
    traced: tuple[LocalCluster, Collector], place: str
) -> None:
    cluster, _ = traced
    page = (Path(__file__).parent.parent.parent / "docs" / "metrics.md").read_text()
    section = page.partition(f"## {place}\n")[2].partition("\n## ")[0]
    exposed = re.findall(r"# HELP (cilia_\S+)", scrape(cluster, address_of(cluster, place)))
    assert sorted(exposed) == sorted(re.findall(r"^\| `(\S+)`", section, re.MULTILINE))


def test_an_agent_that_reports_to_nobody_is_small(traced: tuple[LocalCluster, Collector]) -> None:
    quiet = LocalCluster.up(f"quiet-{os.getpid()}", nodes=1)
    try:
        status = quiet.agent_call("node1", "status", Empty(), AgentStatus)
        mapped = Path(f"/proc/{quiet.process('agent/node1').pid}/maps").read_text()
    finally:
        quiet.down()
    assert status.rss_bytes < 80e6
    assert "_upb" not in mapped  # protobuf, which the exporter would bring along


def address_of(cluster: LocalCluster, place: str) -> tuple[str, int]:
    if place == "agent":
        return cluster.state.nodes[0].ipv4, AGENT_METRICS_PORT
    return str(HUB_ADDRESS), FIRST_HEALTH_PORT + SERVICES.index(place)


def scrape(cluster: LocalCluster, address: tuple[str, int]) -> str:
    with inside(netns_path(cluster.layout.hub)):
        opened = socket.socket()
    with closing(opened):
        opened.settimeout(5)
        opened.connect(address)
        opened.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while part := opened.recv(65536):
            received += part
    return received.decode()
