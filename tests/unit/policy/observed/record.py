"""A record of flows of a small shop, and the commands that read it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from cilia.contracts.labels import workload
from laboratory.command_line import cilia

Json = Any
HOUR = 3_600_000_000_000
START = 1_790_000_000_000_000_000


def pod(namespace: str, name: str, **labels: str) -> Json:
    """Return a pod as an end of a flow."""
    texts = sorted(str(label) for label in workload(namespace, {"app": name, **labels}))
    return {"labels": texts, "workload": f"{namespace}/{name}", "identity": 1000}


WEB, DB, BENCH = pod("shop", "web"), pod("shop", "db"), pod("lab", "bench")
DNS = pod("kube-system", "coredns")
NODE = {"labels": ["reserved:host"], "identity": 1}


def outside(address: str) -> Json:
    """Return somebody in the world."""
    return {"labels": ["reserved:world"], "address": address, "identity": 2}


def flow(source: Json, destination: Json, port: str, verdict: str = "allowed", **more: Any) -> Json:
    number, _, protocol = port.partition("/")
    seen = {"count": 3, "first_ns": START, "last_ns": START + HOUR}
    return {
        "source": source,
        "destination": destination,
        "protocol": protocol,
        "port": int(number),
        "verdict": verdict,
        **seen,
        **more,
    }


FLOWS = [
    flow(WEB, DB, "5432/TCP", count=100, last_ns=START + 5 * HOUR),
    flow(WEB, DNS, "53/UDP"),
    flow(DB, DNS, "53/UDP"),
    flow(BENCH, DB, "5432/TCP", "denied", policy="CiliumNetworkPolicy/shop/db"),
    flow(outside("198.51.100.7"), WEB, "80/TCP"),
    flow(outside("203.0.113.9"), WEB, "22/TCP", "denied"),
    flow(NODE, WEB, "80/TCP"),
    flow(WEB, outside("192.0.2.10"), "443/TCP", egress=True),
    flow(WEB, outside("192.0.2.11"), "443/TCP", egress=True),
    flow(WEB, DB, "8/ICMP"),
]


def policy(name: str, spec: Json, namespace: str = "shop", **annotations: str) -> Json:
    """Return a CiliumNetworkPolicy."""
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


def ingress(app: str, *rules: Json) -> Json:
    """Return a spec with rules of ingress for pods of an app."""
    return {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": list(rules)}


def from_app(app: str, port: str, protocol: str = "TCP") -> Json:
    """Return a rule."""
    ports = [{"ports": [{"port": port, "protocol": protocol}]}]
    return {"fromEndpoints": [{"matchLabels": {"app": app}}], "toPorts": ports}


def write(path: Path, *documents: Json) -> str:
    """Write objects as a file of many JSON documents; returns its path."""
    path.write_text("\n---\n".join(map(json.dumps, documents)))
    return str(path)


def write_flows(path: Path, flows: list[Json] | None = None) -> str:
    """Write a record; returns its path."""
    path.write_text(json.dumps(FLOWS if flows is None else flows))
    return str(path)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``cilia policy``."""
    return cilia("policy", *arguments)
