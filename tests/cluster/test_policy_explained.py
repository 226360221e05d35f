"""Explanations against real packets, and the way back from a change that was a mistake."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cilia.bus import BusConfig, connect_bus
from cilia.contracts.explanations import Explained, ExplainFlow, PeerSelector
from cilia.netns import enter
from laboratory.cluster import LocalCluster
from laboratory.connectivity import DNS, HTTP, OTHER, Attempt, differences, serving
from laboratory.layout import netns_path
from laboratory.policies import Policies
from tests.cluster.test_policy_on_traffic import DB_ISOLATED, WEB_FROM_CLIENTS, everything, make_pods

pytestmark = pytest.mark.cluster

DENY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-db, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egressDeny:
  - toEndpoints: [{matchLabels: {app: db}}]
"""


def explain(policies: Policies, source: str, destination: str, port: str) -> dict[str, object]:
    run = policies.cilia("policy", "explain", "--from", source, "--to", destination, "--port", port, "-o", "json")
    assert run.returncode == 0, run.stderr
    found: dict[str, object] = json.loads(run.stdout)
    return found


def explain_all(cluster: LocalCluster, attempts: Sequence[Attempt]) -> dict[Attempt, bool]:
    """Ask the service about many flows over one connection; the command line asks no other way."""

    async def ask() -> dict[Attempt, bool]:
        async with connect_bus(BusConfig(urls=(cluster.state.nats,)), cluster=cluster.layout.name, name="test") as bus:
            subject = bus.subjects.request("policy", "explain")
            requests = [
                ExplainFlow(PeerSelector(each.source), PeerSelector(each.destination), f"{each.port}/{each.protocol}")
                for each in attempts
            ]
            answers = await asyncio.gather(*(bus.request(subject, each, Explained) for each in requests))
            return {attempt: answer.allowed for attempt, answer in zip(attempts, answers, strict=True)}

    def in_hub() -> dict[Attempt, bool]:
        enter(netns_path(cluster.layout.hub))
        return asyncio.run(ask())

    with ThreadPoolExecutor(1) as thread:  # it stays beside the bus, and ends there
        return thread.submit(in_hub).result()


async def test_explanations_are_what_packets_meet(cluster: LocalCluster, policies: Policies) -> None:
    _, web, client, _, db, _, probe, _ = make_pods(cluster)
    pods = [web, client, db, probe]
    ways = {"tcp": (HTTP, OTHER), "udp": (DNS,), "icmp": (8,)}
    attempts = [
        Attempt(source.name, target.name, protocol, port)
        for source in pods
        for target in pods
        if source is not target
        for protocol, ports in ways.items()
        for port in ports
    ]
    async with serving(pods):
        policies.apply("\n---\n".join((WEB_FROM_CLIENTS, DB_ISOLATED, DENY)))
        allowed = await asyncio.to_thread(explain_all, cluster, attempts)
        assert len(set(allowed.values())) == 2
        assert await differences(pods, lambda attempt: allowed[attempt]) == []
        first = attempts[0]
        told = explain(policies, first.source, first.destination, f"{first.port}/{first.protocol.upper()}")
        assert told["allowed"] is allowed[first]


async def test_the_proposed_policy_opens_what_was_asked_and_a_rollback_closes_it(
    cluster: LocalCluster, policies: Policies
) -> None:
    pods = make_pods(cluster)[:4]
    async with serving(pods):
        policies.apply(WEB_FROM_CLIENTS)
        revision = json.loads(policies.cilia("policy", "history", "-o", "json").stdout)["rows"][0]["revision"]
        denied = explain(policies, "shop/web1", "shop/web2", f"{OTHER}/TCP")
        policies.apply(denied["ingress"]["suggestion"])  # type: ignore[index]

        def closed(attempt: Attempt) -> bool:
            if not attempt.destination.startswith("shop/web"):
                return True
            return attempt.source.startswith("shop/client") and (attempt.protocol, attempt.port) == ("tcp", HTTP)

        def opened(attempt: Attempt) -> bool:
            webs = attempt.source.startswith("shop/web") and attempt.destination.startswith("shop/web")
            return closed(attempt) or (webs and (attempt.protocol, attempt.port) == ("tcp", OTHER))

        assert await differences(pods, opened) == []
        plan = policies.cilia("policy", "rollback", str(revision), "--dry-run")
        assert "-  name: allow-web1-ingress-8080-tcp" in plan.stdout
        assert await differences(pods, opened) == []
        assert policies.cilia("policy", "rollback", str(revision), "--wait").returncode == 0
        assert await differences(pods, closed) == []


async def test_blame_and_history_name_the_author(cluster: LocalCluster, policies: Policies) -> None:
    pods = make_pods(cluster)[:3]
    async with serving(pods):
        assert await differences(pods, everything) == []
        policies.apply(WEB_FROM_CLIENTS)
        blamed = policies.cilia("policy", "blame", "shop/client1", "shop/web1", "80/TCP")
        assert "shop/client1 -> shop/web1 80/TCP: ALLOWED" in blamed.stdout
        assert "spec.ingress[0]" in blamed.stdout
        listed = policies.cilia("policy", "history", "--limit", "1").stdout
        assert listed.splitlines()[1].split()[0] in blamed.stdout
