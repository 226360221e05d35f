"""Metrics, health, tracing and logs."""

import asyncio
import io
import json
import logging
import socket
import subprocess
import sys
from dataclasses import dataclass

from cilia.health import serve_health
from cilia.logs import LogConfig, open_logs
from cilia.metrics import Metrics, counter


@dataclass(slots=True)
class Counters:
    lost: int = counter("events that found no room")


def test_counters_are_plain_ints_that_prometheus_reads() -> None:
    metrics, counters = Metrics(), Counters()
    metrics.count("flows", counters, node="a")
    metrics.gauge("endpoints", "endpoints on this node", lambda: 7)
    counters.lost += 3
    text = metrics.prometheus().decode()
    assert 'cilia_flows_lost_total{node="a"} 3.0' in text
    assert "# HELP cilia_flows_lost_total events that found no room" in text
    assert "cilia_endpoints 7.0" in text


async def ask(port: int, path: str) -> str:
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            await asyncio.sleep(0.01)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


async def test_health_says_what_is_wrong_and_metrics_are_served() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reasons = ["", "etcd is unavailable"]
    server = asyncio.create_task(serve_health(f"127.0.0.1:{port}", Metrics(), lambda: reasons.pop(0)))
    assert (await ask(port, "/healthz")).startswith("HTTP/1.1 200 OK")
    unhealthy = await ask(port, "/healthz")
    assert unhealthy.startswith("HTTP/1.1 503")
    assert unhealthy.endswith("etcd is unavailable\n")
    assert (await ask(port, "/metrics")).startswith("HTTP/1.1 200 OK")
    assert (await ask(port, "/else")).startswith("HTTP/1.1 404")
    server.cancel()


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    program = """
import sys, cilia.bus, cilia.telemetry as t
with t.open_telemetry(t.TelemetryConfig(), "x"), t.span("a", parent="b"):
    assert t.traceparent() == ""
sys.exit(any(name.startswith(("opentelemetry", "prometheus_client")) for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


COLLECTOR = """
import http.server, threading
got = []
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
"""


def test_a_span_continues_the_context_it_is_given_and_leaves_at_the_end() -> None:
    program = (
        COLLECTOR
        + """
import cilia.telemetry as t
parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
with t.open_telemetry(t.TelemetryConfig(otlp_endpoint=url, sample_ratio=1.0), "x"):
    with t.span("allocate", parent=parent):
        mine = t.traceparent()
assert mine.split("-")[1] == "a" * 32 and mine != parent, mine
assert t.traceparent() == ""
[(path, body)] = got
assert path == "/v1/traces" and b"allocate" in body and b"cilia-x" in body, got
import os; os._exit(0)
"""
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_log_line_in_json_has_its_fields() -> None:
    before, level = logging.root.handlers[:], logging.root.level
    stream = io.StringIO()
    try:
        open_logs(LogConfig(format="json"), "ipam", stream)
        logging.getLogger("cilia.x").info("granted %s", "10.0.0.0/26", extra={"node": "a"})
    finally:
        logging.basicConfig(handlers=before, level=level, force=True)
    entry = json.loads(stream.getvalue())
    assert entry["time"].endswith("Z")
    assert {"level": "info", "service": "ipam", "message": "granted 10.0.0.0/26", "node": "a"}.items() <= entry.items()
