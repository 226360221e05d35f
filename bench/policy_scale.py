"""Policy service at 1,000 policies, 10,000 identities and 200 ports: engine and table, no bus.

Each policy selects an application (10 identities) and lets a team (100 identities) reach 200 ports
that have no common prefix. Written out that is 20,000 entries for each of 10,000 subjects, 200
million in all. A process of its own, so that its memory is that of this alone.
"""

import json
import multiprocessing
import random
import resource
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

from bench.report import Figure, summarize
from cilia.contracts.ids import EndpointId, Identity, NodeName
from cilia.contracts.labels import parse_labels
from cilia.contracts.tables import RESOLVED, Endpoint, EndpointKey, PolicyObject
from cilia.policy.engine.options import Options
from cilia.table.changelog import Changelog
from cilia.table.wire import encode_delta
from services.policy.resolution.events import EndpointEvent, Event, IdentityEvent, PolicyEvent
from services.policy.resolution.parse_cache import ParseCache
from services.policy.resolution.resolver import EngineResolver

POLICIES: Final = 1000
IDENTITIES: Final = 10_000
PORTS: Final = 200
TEAMS: Final = 100
CHANGES: Final = 30
NAMESPACE: Final = "k8s:io.kubernetes.pod.namespace=bench"


def policy(number: int, ports: Sequence[int], team: int) -> PolicyEvent:
    """Let a team reach ports of an application."""
    items = [{"port": str(port), "protocol": "TCP"} for port in ports]
    rule = {
        "fromEndpoints": [{"matchLabels": {"team": f"t{team}"}}],
        "toPorts": [{"ports": items[at : at + 40]} for at in range(0, len(items), 40)],
    }
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"p{number}", "namespace": "bench"},
        "spec": {"endpointSelector": {"matchLabels": {"app": f"a{number}"}}, "ingress": [rule]},
    }
    row = PolicyObject("CiliumNetworkPolicy", "bench", f"p{number}", json.dumps(document))
    return PolicyEvent(f"CiliumNetworkPolicy/bench/p{number}", row)


def everybody(number: int, ports: Sequence[int]) -> PolicyEvent:
    """Let every pod of the cluster reach ports of one application, whatever its namespace."""
    event = policy(number, ports, 0)
    assert event.row is not None
    document = event.row.document.replace('"matchLabels": {"team": "t0"}', "")
    row = PolicyObject("CiliumNetworkPolicy", "bench", f"p{number}", document)
    return PolicyEvent(event.key, row)


def identity(number: int) -> IdentityEvent:
    """A version of an application; teams go across."""
    texts = (f"k8s:app=a{number % POLICIES}", f"k8s:team=t{number // 10 % TEAMS}", f"k8s:version=v{number}", NAMESPACE)
    return IdentityEvent(Identity(256 + number), parse_labels(texts))


def endpoint(number: int) -> EndpointEvent:
    """A pod of it, on one of 100 nodes."""
    key = EndpointKey(NodeName(f"n{number % 100}"), EndpointId(number // 100 + 1))
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return EndpointEvent(key, Endpoint(key.node, key.id, Identity(256 + number), address))


class Service:
    """The resolver and the table behind it, as the mirror drives them."""

    def __init__(self) -> None:
        self.resolver = EngineResolver(ParseCache(), Options())
        self.changelog = Changelog(RESOLVED, computed=self.resolver.rows)
        self.messages = self.bytes = self.rows = 0

    def load(self, events: Sequence[Event]) -> None:
        """Resolve everything."""
        self.resolver.load(events)
        self.changelog.reset({}, 1, 1)
        self.changelog.lead(0)

    def change(self, *events: Event) -> float:
        """Take a revision up to the encoded messages; returns its milliseconds."""
        started = time.perf_counter()
        difference = self.resolver.take(events)
        upserts = {key: row for key, row in difference.items() if row is not None}
        removes = [key for key, row in difference.items() if row is None]
        self.changelog.commit(self.changelog.sequence + 1, upserts, removes)
        payloads = [payload for each in self.changelog.take_pending() for payload in encode_delta(each.delta)]
        taken = (time.perf_counter() - started) * 1e3
        self.messages, self.bytes, self.rows = len(payloads), sum(map(len, payloads)), len(difference)
        return taken


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(pipe: Connection) -> None:
    """Entry of the process."""
    picked = random.Random(1)
    ports = sorted(picked.sample(range(1024, 65_536), PORTS))
    others = sorted(picked.sample(range(1024, 65_536), PORTS))
    events: list[Event] = [identity(number) for number in range(IDENTITIES)]
    events += [endpoint(number) for number in range(IDENTITIES)]
    events += [policy(number, ports, number % TEAMS) for number in range(POLICIES)]
    idle = _rss_mb()
    service = Service()
    started, worked = time.perf_counter(), time.process_time()
    service.load(events)
    full, processor = time.perf_counter() - started, time.process_time() - worked
    figures = [
        summarize("policy.full_resolution.s", "s", [full]),
        summarize("policy.full_resolution.cpu_s", "s", [processor]),
    ]
    added = [service.change(identity(IDENTITIES + number), endpoint(IDENTITIES + number)) for number in range(CHANGES)]
    figures += [summarize("policy.identity_added.ms", "ms", added), *_sizes(service, "identity_added")]
    changed = [
        service.change(policy(number, (ports, others)[number % 2], number % TEAMS))
        for number in range(1, 2 * CHANGES, 2)
    ]
    figures += [summarize("policy.changed.ms", "ms", changed), *_sizes(service, "changed")]
    figures.append(summarize("policy.service.rss.mb", "MB", [_rss_mb()]))
    figures.append(summarize("policy.service.rss_idle.mb", "MB", [idle]))
    figures.append(summarize("policy.all_peers.changed.ms", "ms", [service.change(everybody(0, ports))]))
    figures += _sizes(service, "all_peers.changed")
    pipe.send(figures)


def _sizes(service: Service, name: str) -> list[Figure]:
    return [
        summarize(f"policy.{name}.messages", "messages", [service.messages]),
        summarize(f"policy.{name}.rows", "rows", [service.rows]),
        summarize(f"policy.{name}.kb", "kB", [service.bytes / 1e3]),
    ]


def measure_scale() -> list[Figure]:
    """Measure in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=measure, args=(there,), daemon=True)
    process.start()
    figures: list[Figure] = here.recv()
    process.join()
    return figures
