"""The corpora of verdicts, where they are at hand: ``$CILIA_CORPUS`` or ``../shared/corpus`` beside
the repository.
"""

import json
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.labels import CLUSTER, Label, Labels, workload
from cilia.contracts.protocols import IpProtocol
from cilia.policy.engine.events import EndpointsChanged, Event, IdentityPut
from cilia.policy.engine.rules import cidr_label
from cilia.policy.engine.selectors import ContainerPort

PROTOCOLS: dict[str, int] = {each.name: each for each in IpProtocol}
Json = Any


def directory() -> Path:
    """Return where the corpora are; skips the test if they aren't."""
    beside = Path(__file__).resolve().parents[3].parent
    for place in (os.environ.get("CILIA_CORPUS"), beside / "shared/corpus", beside.parent / "shared/corpus"):
        if place and Path(place).is_dir():
            return Path(place)
    pytest.skip("no corpus: set CILIA_CORPUS, or put it at ../shared/corpus")


def load(name: str) -> Json:
    """Read one file of the corpus."""
    path = directory() / name
    if not path.exists():
        pytest.skip(f"the corpus has no {name}")
    return json.loads(path.read_text())


def identities_of(cluster: Json) -> list[Event]:
    """Return a cluster's pods and prefixes as events."""
    events: list[Event] = []
    for row in cluster["identities"]:
        identity = Identity(row["id"])
        events.append(IdentityPut(identity, labels_of(cluster, row)))
        events.append(EndpointsChanged(identity, frozenset(), _ports(row.get("ports") or {})))
    for prefix, number in cluster["cidr_ids"].items():
        network = ip_network(prefix)
        world = f"world-ipv{network.version}" if cluster["ipv6"] else "world"
        events.append(IdentityPut(Identity(number), frozenset({cidr_label(network), Label("reserved", world, "")})))
    return events


def labels_of(cluster: Json, row: Json) -> Labels:
    """Return the security labels of a pod."""
    place = {Label("k8s", CLUSTER, row.get("cluster", "default"))}
    return workload(row["ns"], row["labels"], cluster["namespaces"][row["ns"]]) | place


def _ports(ports: Json) -> frozenset[ContainerPort]:
    split = {name: text.split("/") for name, text in ports.items()}
    return frozenset(ContainerPort(name, PROTOCOLS[protocol], int(port)) for name, (port, protocol) in split.items())
